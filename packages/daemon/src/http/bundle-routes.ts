import { KilnError } from "@kiln/protocol";
import { Hono } from "hono";
import { stream } from "hono/streaming";
import { requireImage } from "../operations/images.ts";
import { sweepUnused } from "../operations/sweep.ts";
import type { ApiParts } from "./parts.ts";
import { parameter } from "./parse.ts";

export const bundleRoutes = (parts: ApiParts): Hono =>
  new Hono()
    .post("/", async (context) => {
      const body = context.req.raw.body ?? new ReadableStream({ start: (controller) => controller.close() });
      try {
        return context.json(await parts.bundles.receive(body, { signal: context.req.raw.signal }), 201);
      } catch (error) {
        await sweepUnused(parts.core); // what came before it was seen to be no bundle
        throw error;
      }
    })
    .get("/:reference{.+}", async (context) => {
      const { core } = parts;
      const image = requireImage(core, decodeURIComponent(parameter(context, "reference")));
      const rootfs = core.images.getRootfs(image.rootfsKey);
      if (rootfs === null)
        throw new KilnError("IMAGE_CONTENT_MISSING", `the rootfs of ${image.reference} is not built`, { object: image.reference });
      const left = new AbortController();
      const lease = core.leases.begin();
      lease.hold(image.rootfsKey);
      const pieces = parts.bundles.write(image, rootfs, { signal: left.signal })[Symbol.asyncIterator]();
      const first = await pieces.next().catch((error: unknown) => {
        lease[Symbol.dispose]();
        throw error;
      });
      context.header("content-type", "application/zstd");
      return stream(context, async (out) => {
        using _lease = lease;
        out.onAbort(() => left.abort());
        try {
          for (let piece = first; piece.done !== true; piece = await pieces.next()) await out.write(piece.value);
        } finally {
          await pieces.return?.();
        }
      });
    });
