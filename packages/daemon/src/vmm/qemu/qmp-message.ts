import { z } from "zod";

/** One line of the QEMU Machine Protocol (docs/interop/qmp-spec.rst). Fields that Kiln does not read are let pass. */
const greetingSchema = z.object({ QMP: z.object({ version: z.unknown() }) });
const eventSchema = z.object({ event: z.string().max(128), data: z.record(z.string(), z.unknown()).default({}) });
const replySchema = z.object({ id: z.number().int(), return: z.unknown() });
const errorSchema = z.object({ id: z.number().int().nullish(), error: z.object({ class: z.string(), desc: z.string() }) });

export type QmpMessage =
  | { readonly kind: "greeting" }
  | { readonly kind: "event"; readonly name: string; readonly data: Readonly<Record<string, unknown>> }
  | { readonly kind: "reply"; readonly id: number; readonly value: unknown }
  | { readonly kind: "error"; readonly id: number | null; readonly class: string; readonly desc: string };

/** Throws where the line is no message of QMP. */
export const parseQmpMessage = (line: string): QmpMessage => {
  const value: unknown = JSON.parse(line);
  const event = eventSchema.safeParse(value);
  if (event.success) return { kind: "event", name: event.data.event, data: event.data.data };
  const error = errorSchema.safeParse(value);
  if (error.success) return { kind: "error", id: error.data.id ?? null, ...error.data.error };
  const reply = replySchema.safeParse(value);
  if (reply.success) return { kind: "reply", id: reply.data.id, value: reply.data.return };
  greetingSchema.parse(value);
  return { kind: "greeting" };
};
