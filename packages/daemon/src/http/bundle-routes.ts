import { KilnError } from "@kiln/protocol";
import { Hono } from "hono";
import { requireImage } from "../operations/images.ts";
import { sweepUnused } from "../operations/sweep.ts";
import type { ApiParts } from "./parts.ts";
import { parameter } from "./parse.ts";
import { wholeBody } from "./streaming.ts";

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
      const image = requireImage(core, parameter(context, "reference"));
      const rootfs = core.images.getRootfs(image.rootfsKey);
      if (rootfs === null)
        throw new KilnError("IMAGE_CONTENT_MISSING", `the rootfs of ${image.reference} is not built`, { object: image.reference });
      if (context.req.method === "HEAD") return context.body(null);
      context.header("content-type", "application/zstd");
      return wholeBody(context, core, async function* (signal) {
        using lease = core.leases.begin();
        lease.hold(image.rootfsKey);
        yield* parts.bundles.write(image, rootfs, { signal });
      });
    });
