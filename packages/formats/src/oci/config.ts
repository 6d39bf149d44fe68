import { parseDigest } from "./descriptor.ts";
import {
  asArray,
  asKeys,
  asName,
  asObject,
  asString,
  asStringMap,
  asStrings,
  optional,
  parseJsonDocument,
  type JsonObject,
} from "./json.ts";
import { OCI_LIMITS } from "./limits.ts";
import type { Platform } from "./platform.ts";

/** OCI image-spec, config.md; docker's config has the same fields. A list that is absent is empty, a string "". */
export interface ImageConfig {
  readonly platform: Platform;
  /** Digests of the unpacked layer tars, the lowest first. */
  readonly diffIds: readonly string[];
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  /** NAME=VALUE. */
  readonly env: readonly string[];
  readonly workingDir: string;
  readonly user: string;
  /** A name or a number, as STOPSIGNAL was written. */
  readonly stopSignal: string;
  /** `80/tcp`. */
  readonly exposedPorts: readonly string[];
  readonly volumes: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
}

/** Throws OciError INVALID, LIMIT, UNSUPPORTED. */
export const parseImageConfig = (bytes: Uint8Array): ImageConfig => {
  const document = parseJsonDocument(bytes, "config");
  const rootfs = asObject(document["rootfs"], "config.rootfs");
  const diffIds = asArray(rootfs["diff_ids"] ?? [], "config.rootfs.diff_ids", OCI_LIMITS.layers);
  const text = (field: string): string => optional(document[field], (one) => asName(one, `config.${field}`)) ?? "";
  return {
    platform: { os: text("os"), architecture: text("architecture"), variant: text("variant") },
    diffIds: diffIds.map((one, index) => parseDigest(one, `config.rootfs.diff_ids[${index}]`)),
    ...parseExecution(optional(document["config"], (one) => asObject(one, "config.config")) ?? {}),
  };
};

const parseExecution = (config: JsonObject): Omit<ImageConfig, "platform" | "diffIds"> => {
  const what = (field: string): string => `config.config.${field}`;
  const strings = (field: string): readonly string[] =>
    optional(config[field], (one) => asStrings(one, what(field), OCI_LIMITS.configEntries)) ?? [];
  const text = (field: string): string => optional(config[field], (one) => asString(one, what(field))) ?? "";
  const keys = (field: string): readonly string[] => optional(config[field], (one) => asKeys(one, what(field))) ?? [];
  return {
    entrypoint: strings("Entrypoint"),
    cmd: strings("Cmd"),
    env: strings("Env"),
    workingDir: text("WorkingDir"),
    user: text("User"),
    stopSignal: text("StopSignal"),
    exposedPorts: keys("ExposedPorts"),
    volumes: keys("Volumes"),
    labels: optional(config["Labels"], (one) => asStringMap(one, what("Labels"))) ?? {},
  };
};
