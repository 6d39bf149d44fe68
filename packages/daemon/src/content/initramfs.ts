import { type CpioEntry, writeNewc } from "@kiln/formats/cpio";
import { KilnError } from "@kiln/protocol";
import type { KernelManifest } from "../kernels/kernel-set.ts";
import type { KernelModule } from "./kernel-modules.ts";

/** What the kernel opens and what init mounts on, before there is anything else. */
const SKELETON: readonly CpioEntry[] = [
  ...["dev", "proc", "sys", "newroot", "modules"].map((path): CpioEntry => ({ type: "directory", path, mode: 0o755 })),
  { type: "char", path: "dev/console", mode: 0o600, major: 5, minor: 1 },
  { type: "char", path: "dev/null", mode: 0o666, major: 1, minor: 3 },
];

/**
 * The agent as /init, the modules flat as /modules/NAME.ko, and /modules/boot.list with those that init loads by
 * itself, a line each. Not packed: unpacking costs an emulated processor more than reading.
 */
export const buildInitramfs = (parts: {
  readonly agent: Uint8Array;
  readonly modules: ReadonlyMap<string, KernelModule>;
  readonly plan: KernelManifest["modules"];
}): Uint8Array => {
  const { agent, modules, plan } = parts;
  const names = [...new Set(Object.values(plan).flat())].sort();
  return writeNewc([
    ...SKELETON,
    { type: "file", path: "init", mode: 0o755, bytes: agent },
    {
      type: "file",
      path: "modules/boot.list",
      mode: 0o444,
      bytes: new TextEncoder().encode(plan.boot.map((name) => `${name}\n`).join("")),
    },
    ...names.map((name): CpioEntry => {
      const module = modules.get(name);
      if (module === undefined) throw new KilnError("KERNEL_INVALID", `there is no module ${name}`, { object: name });
      return { type: "file", path: `modules/${name}.ko`, mode: 0o444, bytes: module.bytes };
    }),
  ]);
};
