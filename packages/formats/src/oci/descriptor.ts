import { OciError } from "./errors.ts";
import { asName, asObject, asString, asStringMap, optional } from "./json.ts";
import type { Platform } from "./platform.ts";

/** OCI image-spec, descriptor.md. */
export interface Descriptor {
  readonly mediaType: string;
  /** `sha256:` and 64 lower-case hex digits. */
  readonly digest: string;
  /** Bytes. */
  readonly size: number;
  readonly platform: Platform | null;
  readonly annotations: Readonly<Record<string, string>>;
}

const SHA256 = /^sha256:[0-9a-f]{64}$/;
const OTHER_ALGORITHM = /^[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+$/;

/** Throws OciError INVALID, or UNSUPPORTED for an algorithm other than sha256. */
export const parseDigest = (value: unknown, what: string): string => {
  const text = asName(value, what);
  if (SHA256.test(text)) return text;
  if (OTHER_ALGORITHM.test(text) && !text.startsWith("sha256:"))
    throw new OciError("UNSUPPORTED", `${what} is ${text}; only sha256 is supported`);
  throw new OciError("INVALID", `${what} is not a digest: ${JSON.stringify(text.slice(0, 100))}`);
};

const parsePlatform = (value: unknown, what: string): Platform => {
  const object = asObject(value, what);
  return {
    os: asName(object["os"], `${what}.os`),
    architecture: asName(object["architecture"], `${what}.architecture`),
    variant: optional(object["variant"], (one) => asName(one, `${what}.variant`)) ?? "",
  };
};

/** Throws OciError INVALID, LIMIT, UNSUPPORTED. */
export const parseDescriptor = (value: unknown, what: string): Descriptor => {
  const object = asObject(value, what);
  const size = object["size"];
  if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0) throw new OciError("INVALID", `${what}.size is not a size`);
  return {
    mediaType: asName(object["mediaType"], `${what}.mediaType`),
    digest: parseDigest(asString(object["digest"], `${what}.digest`), `${what}.digest`),
    size,
    platform: optional(object["platform"], (one) => parsePlatform(one, `${what}.platform`)),
    annotations: optional(object["annotations"], (one) => asStringMap(one, `${what}.annotations`)) ?? {},
  };
};
