import { importImageRequest, pullImageRequest, tagImageRequest } from "@kiln/protocol";
import { type Context, Hono } from "hono";
import { beginPullImage, importImage, inspectImage, listImages, removeImage, tagImage } from "../operations/images.ts";
import { answerBegun } from "./begun.ts";
import type { ApiParts } from "./parts.ts";
import { callerFacts, parameter, parseBody } from "./parse.ts";

const reference = (context: Context): string => decodeURIComponent(parameter(context, "reference"));

export const imageRoutes = (parts: ApiParts): Hono => {
  const { core } = parts;
  return new Hono()
    .get("/", (context) => context.json(listImages(core)))
    .post("/pull", async (context) => {
      const request = await parseBody(context, pullImageRequest);
      return answerBegun(context, core, () => beginPullImage(core, request, callerFacts(context)));
    })
    .post("/import", async (context) => {
      const request = await parseBody(context, importImageRequest);
      const answer = await importImage(core, request, () => parts.importer.plan(request, { signal: context.req.raw.signal }));
      return context.json(answer);
    })
    .post("/tag", async (context) => context.json(await tagImage(core, await parseBody(context, tagImageRequest))))
    .get("/:reference{.+}", (context) => context.json(inspectImage(core, reference(context))))
    .delete("/:reference{.+}", async (context) => {
      await removeImage(core, reference(context));
      return context.body(null, 204);
    });
};
