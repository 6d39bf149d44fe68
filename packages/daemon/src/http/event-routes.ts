import { Hono } from "hono";
import { z } from "zod";
import type { Core } from "../operations/core.ts";
import { type EventMessage, type EventQuery, followEvents } from "../operations/follow-events.ts";
import { parseWith } from "./parse.ts";
import { streamBody } from "./streaming.ts";

const cursor = z.coerce.number().int().min(0);
const time = z.iso.datetime({ offset: true });

const eventQuery = z.object({
  since: z.union([cursor, time.transform((text) => new Date(text).toISOString())]).nullable(),
  until: z.union([z.literal("now"), time.transform(Date.parse)]).nullable(),
  types: z.array(z.string().max(64)).max(64),
  subjects: z.array(z.string().max(4096)).max(64),
});

/**
 * A message of an event stream (WHATWG HTML, 9.2): its id is the cursor. One without data moves the cursor of a client
 * whose filter lets nothing through.
 */
const encode = (message: EventMessage): string => {
  if ("cursor" in message) return `: here\nid: ${message.cursor}\n\n`;
  const { event } = message;
  const name = event.type === "truncated" ? "event: truncated\n" : "";
  return `${name}id: ${event.seq}\ndata: ${JSON.stringify(event)}\n\n`;
};

export const eventRoutes = (core: Core): Hono =>
  new Hono().get("/", (context) => {
    const asked = context.req.query("since") ?? context.req.header("last-event-id") ?? null;
    const query: EventQuery = parseWith(eventQuery, {
      since: asked,
      until: context.req.query("until") ?? null,
      types: context.req.queries("type") ?? [],
      subjects: context.req.queries("subject") ?? [],
    });
    context.header("content-type", "text/event-stream");
    context.header("cache-control", "no-store");
    return streamBody(context, core, async (out, signal) => {
      for await (const message of followEvents(core, query, { signal })) await out.write(encode(message));
      // what ends without these words has broken off
      await out.write("event: end\ndata: {}\n\n");
    });
  });
