import { type Digest, isDigest, KilnError } from "@kiln/protocol";
import { Hono } from "hono";
import { stream } from "hono/streaming";
import type { ApiParts } from "./parts.ts";
import { parameter } from "./parse.ts";

const parseDigest = (text: string): Digest => {
  if (!isDigest(text)) throw new KilnError("REQUEST_INVALID", `${text.slice(0, 80)} is not a digest: sha256: and 64 hex digits`);
  return text;
};

export const contentRoutes = (parts: ApiParts): Hono =>
  new Hono()
    .post("/", async (context) => {
      const length = context.req.header("content-length");
      const body = context.req.raw.body ?? new ReadableStream({ start: (controller) => controller.close() });
      const size = length === undefined ? null : Number(length);
      const { digest, size: sizeBytes } = await parts.blobs.receiveUnnamed(body, { size, signal: context.req.raw.signal });
      return context.json({ digest, sizeBytes }, 201);
    })
    .get("/:digest", async (context) => {
      const digest = parseDigest(parameter(context, "digest"));
      if (context.req.method === "HEAD") return context.body(null, (await parts.blobs.has(digest)) ? 200 : 404);
      const content = await parts.blobs.open(digest);
      context.header("content-type", "application/octet-stream");
      context.header("content-length", String(content.size));
      return stream(context, async (out) => {
        await using _open = content;
        const left = new AbortController();
        out.onAbort(() => left.abort());
        for await (const chunk of content.stream({ signal: left.signal })) await out.write(chunk);
      });
    })
    .put("/:digest", async (context) => {
      const digest = parseDigest(parameter(context, "digest"));
      const length = context.req.header("content-length");
      const body = context.req.raw.body ?? new ReadableStream({ start: (controller) => controller.close() });
      await parts.blobs.receive(digest, body, { size: length === undefined ? null : Number(length), signal: context.req.raw.signal });
      return context.json({}, 201);
    });
