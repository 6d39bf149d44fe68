import { CALLER_HEADER, KilnError, LIMITS, REGISTRY_AUTH_HEADER, type RegistryCredentials, registryCredentials } from "@kiln/protocol";
import type { Context } from "hono";
import type { CallerFacts } from "../operations/images.ts";
import type { z } from "zod";

/** Throws REQUEST_INVALID with the field's path. */
export const parseWith = <Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> => {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const words = parsed.error.issues
    .slice(0, 4)
    .map((issue) => `${issue.path.length === 0 ? "the request" : issue.path.join(".")}: ${issue.message}`);
  throw new KilnError("REQUEST_INVALID", words.join("; "));
};

/** A JSON body that fits `schema`; an empty one counts as {}. Throws REQUEST_INVALID, REQUEST_TOO_LARGE. */
export const parseBody = async <Schema extends z.ZodType>(context: Context, schema: Schema): Promise<z.output<Schema>> => {
  const text = await context.req.text();
  if (text.length > LIMITS.requestBytes) throw new KilnError("REQUEST_TOO_LARGE", `the request has ${text.length} characters`);
  let value: unknown;
  try {
    value = text === "" ? {} : JSON.parse(text);
  } catch (error) {
    throw new KilnError("REQUEST_INVALID", "the request's body is not JSON", { cause: error });
  }
  return parseWith(schema, value);
};

const KEY = /^[\x21-\x7e]{1,128}$/;

/** Throws REQUEST_INVALID for a key that is no token. */
export const idempotencyKey = (context: Context): string | null => {
  const key = context.req.header("idempotency-key");
  if (key === undefined) return null;
  if (!KEY.test(key)) throw new KilnError("REQUEST_INVALID", "an idempotency key has 1 to 128 visible ASCII characters");
  return key;
};

/** The header's value is never part of a message: it holds passwords. Throws REQUEST_INVALID. */
const credentialsOf = (context: Context): RegistryCredentials => {
  const header = context.req.header(REGISTRY_AUTH_HEADER);
  if (header === undefined) return {};
  try {
    return registryCredentials.parse(JSON.parse(Buffer.from(header, "base64url").toString("utf8")));
  } catch {
    // the cause would quote the credentials
    throw new KilnError("REQUEST_INVALID", `the header ${REGISTRY_AUTH_HEADER} is not base64url of credentials by host`);
  }
};

const CALLER_LENGTH = 128;

/** What comes with every request that begins something. */
export const requestFacts = (context: Context): Omit<CallerFacts, "credentials"> => ({
  idempotencyKey: idempotencyKey(context),
  caller: (context.req.header(CALLER_HEADER) ?? "").slice(0, CALLER_LENGTH),
});

/** What comes with a request that may pull. */
export const callerFacts = (context: Context): CallerFacts => ({
  ...requestFacts(context),
  credentials: credentialsOf(context),
});

/** A part of the path, decoded. */
export const parameter = (context: Context, name: string): string => {
  const value = context.req.param(name);
  if (value === undefined) throw new KilnError("REQUEST_INVALID", `the path has no ${name}`);
  return value;
};
