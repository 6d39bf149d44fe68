import { OciError } from "./errors.ts";
import { OCI_LIMITS } from "./limits.ts";

/** A JSON object; fields are read by name only, so that a document cannot reach a prototype. */
export type JsonObject = Readonly<Record<string, unknown>>;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Counts brackets outside strings, so that depth is known before anything is built. */
const checkDepth = (bytes: Uint8Array, what: string): void => {
  let depth = 0;
  let inString = false;
  for (let at = 0; at < bytes.length; at += 1) {
    const byte = bytes[at];
    if (inString) {
      if (byte === BACKSLASH) at += 1;
      else if (byte === QUOTE) inString = false;
    } else if (byte === QUOTE) inString = true;
    else if (byte === 0x7b || byte === 0x5b) {
      depth += 1;
      if (depth > OCI_LIMITS.depth) throw new OciError("LIMIT", `${what} is nested deeper than ${OCI_LIMITS.depth} levels`);
    } else if (byte === 0x7d || byte === 0x5d) depth -= 1;
  }
};

/** Parses a document whose top is an object. Throws OciError INVALID, LIMIT. */
export const parseJsonDocument = (bytes: Uint8Array, what: string): JsonObject => {
  if (bytes.length > OCI_LIMITS.documentBytes)
    throw new OciError("LIMIT", `${what} has ${bytes.length} bytes, more than ${OCI_LIMITS.documentBytes}`);
  checkDepth(bytes, what);
  try {
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    return asObject(value, what);
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError) throw new OciError("INVALID", `${what} is not JSON`, { cause: error });
    throw error;
  }
};

export const asObject = (value: unknown, what: string): JsonObject => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new OciError("INVALID", `${what} is not an object`);
  return value as JsonObject;
};

export const asArray = (value: unknown, what: string, maxLength: number): readonly unknown[] => {
  if (!Array.isArray(value)) throw new OciError("INVALID", `${what} is not a list`);
  if (value.length > maxLength) throw new OciError("LIMIT", `${what} has ${value.length} entries, more than ${maxLength}`);
  return value;
};

export const asString = (value: unknown, what: string): string => {
  if (typeof value !== "string") throw new OciError("INVALID", `${what} is not a string`);
  return value;
};

/** A string that is compared or shown, and therefore short. */
export const asName = (value: unknown, what: string): string => {
  const name = asString(value, what);
  if (name.length > OCI_LIMITS.nameLength) throw new OciError("LIMIT", `${what} is longer than ${OCI_LIMITS.nameLength} letters`);
  return name;
};

/** Absent and null are the same in documents that Go wrote. */
export const optional = <Value>(value: unknown, parse: (present: unknown) => Value): Value | null =>
  value === undefined || value === null ? null : parse(value);

export const asStrings = (value: unknown, what: string, maxLength: number): readonly string[] =>
  asArray(value, what, maxLength).map((one, index) => asString(one, `${what}[${index}]`));

/** A map from string to string, as annotations and labels are. */
export const asStringMap = (value: unknown, what: string): Readonly<Record<string, string>> => {
  const entries = Object.entries(asObject(value, what));
  if (entries.length > OCI_LIMITS.configEntries)
    throw new OciError("LIMIT", `${what} has ${entries.length} entries, more than ${OCI_LIMITS.configEntries}`);
  return Object.fromEntries(entries.map(([key, one]) => [key, asString(one, `${what}.${key}`)]));
};

/** The keys of a set that Go writes as a map to empty objects (ExposedPorts, Volumes). */
export const asKeys = (value: unknown, what: string): readonly string[] => {
  const keys = Object.keys(asObject(value, what));
  if (keys.length > OCI_LIMITS.configEntries)
    throw new OciError("LIMIT", `${what} has ${keys.length} entries, more than ${OCI_LIMITS.configEntries}`);
  return keys;
};
