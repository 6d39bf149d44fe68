import { KilnError, LIMITS } from "@kiln/protocol";
import type { Context } from "hono";
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

export const parameter = (context: Context, name: string): string => {
  const value = context.req.param(name);
  if (value === undefined) throw new KilnError("REQUEST_INVALID", `the path has no ${name}`);
  return value;
};
