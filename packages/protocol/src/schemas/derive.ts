import { z } from "zod";
import { LIMITS } from "../limits.ts";
import { imageSourceFields } from "./image.ts";
import { argument, environment, labels, memoryBytes } from "./vm.ts";

/** What the config of an image made from another says otherwise than that one's; null and absent: the same. */
const configChanges = {
  command: z.array(argument).nullable().default(null),
  /** One that is given drops the command that was there, as in a Dockerfile. */
  entrypoint: z.array(argument).nullable().default(null),
  labels: labels.default({}),
};

/** Where the image goes. */
const published = {
  name: z.string().min(1).max(4096),
  /** Whether a name that leads to another image may be moved. */
  replace: z.boolean().default(false),
};

/** Makes an image of what a VM that does not run has written. */
export const promoteImageRequest = z.strictObject({
  ...published,
  /** By id, unique prefix or name. */
  vm: z.string().min(1).max(256),
  ...configChanges,
  env: environment.default([]),
  workingDir: z.string().startsWith("/").nullable().default(null),
  user: z.string().max(256).nullable().default(null),
  /** Into the image's history. */
  message: z.string().max(4096).default(""),
});
export type PromoteImageRequest = z.input<typeof promoteImageRequest>;
export type PromoteImage = z.output<typeof promoteImageRequest>;

/** Runs commands in a VM of an image and makes an image of what they leave. */
export const customizeImageRequest = z.strictObject({
  ...published,
  image: z.string().min(1).max(4096),
  pull: z.enum(["missing", "always", "never"]).default("missing"),
  ...imageSourceFields,
  /** In this order, each by `/bin/sh -c`. */
  run: z.array(argument.min(1).max(LIMITS.commandBytes)).min(1).max(LIMITS.customizeCommands),
  /** For the commands alone: the image keeps none of it. */
  env: environment.default([]),
  workingDir: z.string().startsWith("/").nullable().default(null),
  user: z.string().max(256).nullable().default(null),
  network: z.enum(["user", "none"]).default("user"),
  cpus: z.int().min(1).max(LIMITS.cpus).optional(),
  memoryBytes: memoryBytes.optional(),
  ...configChanges,
  /** Run the commands even where their result is there. */
  noCache: z.boolean().default(false),
});
export type CustomizeImageRequest = z.input<typeof customizeImageRequest>;
export type CustomizeImage = z.output<typeof customizeImageRequest>;
