import { Hono } from "hono";
import type { Core } from "../operations/core.ts";
import { parameter } from "./parse.ts";
import { streamBody } from "./streaming.ts";

export const operationRoutes = (core: Core): Hono =>
  new Hono()
    .get("/", (context) => context.json(core.operations.list({ all: context.req.query("all") === "true" })))
    .get("/:id", async (context) => {
      const id = parameter(context, "id");
      const waits = context.req.query("wait") === "true";
      return context.json(waits ? await core.operations.wait(id, { signal: context.req.raw.signal }) : core.operations.get(id));
    })
    .get("/:id/watch", (context) => {
      const id = parameter(context, "id");
      core.operations.get(id);
      context.header("content-type", "application/x-ndjson");
      return streamBody(context, core, async (out, signal) => {
        for await (const view of core.operations.watch(id, { signal })) await out.writeln(JSON.stringify(view));
      });
    })
    .post("/:id/cancel", (context) => context.json(core.operations.cancel(parameter(context, "id")), 202));
