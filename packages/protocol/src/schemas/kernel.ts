import { z } from "zod";
import { LIMITS } from "../limits.ts";
import { memoryBytes } from "./vm.ts";

/** What `kiln kernel warm` sends. Absent fields are those of a VM that says nothing of them. */
export const warmKernelRequest = z.strictObject({
  cpus: z.int().min(1).max(LIMITS.cpus).optional(),
  memoryBytes: memoryBytes.optional(),
});
export type WarmKernelRequest = z.input<typeof warmKernelRequest>;
export type WarmKernel = z.output<typeof warmKernelRequest>;
