import { importImageRequest, pullImageRequest } from "@kiln/protocol";
import { Hono } from "hono";
import { beginPullImage, importImage, listImages, removeImage } from "../operations/images.ts";
import type { ApiParts } from "./parts.ts";
import { idempotencyKey, parameter, parseBody } from "./parse.ts";

export const imageRoutes = (parts: ApiParts): Hono => {
  const { core } = parts;
  return new Hono()
    .get("/", (context) => context.json(listImages(core)))
    .post("/pull", async (context) => {
      const request = await parseBody(context, pullImageRequest);
      return context.json(beginPullImage(core, request, idempotencyKey(context)), 202);
    })
    .post("/import", async (context) => {
      const request = await parseBody(context, importImageRequest);
      const answer = await importImage(core, request.reference, () => parts.importer.plan(request, { signal: context.req.raw.signal }));
      return context.json(answer);
    })
    .delete("/:reference{.+}", async (context) => {
      await removeImage(core, decodeURIComponent(parameter(context, "reference")), parts.collectContent);
      return context.body(null, 204);
    });
};
