import {
  type Digest,
  KilnError,
  customizeImageRequest,
  importImageRequest,
  promoteImageRequest,
  pullImageRequest,
  rebuildImageRequest,
  registerImageRequest,
  tagImageRequest,
  verifyImageRequest,
} from "@kiln/protocol";
import { type Context, Hono } from "hono";
import { beginPullImage, importImage, inspectImage, listImages, removeImage, tagImage } from "../operations/images.ts";
import { beginCustomizeImage } from "../operations/customize-image.ts";
import { beginPromoteImage } from "../operations/promote-image.ts";
import { beginRegisterImage, hasBegunRegister } from "../operations/register-image.ts";
import { beginRebuildImage } from "../operations/rebuild-image.ts";
import { beginVerifyImage } from "../operations/verify-image.ts";
import { answerBegun } from "./begun.ts";
import type { ApiParts } from "./parts.ts";
import { callerFacts, parameter, parseBody, requestFacts } from "./parse.ts";

const reference = (context: Context): string => parameter(context, "reference");

/** Before an operation begins: who has sent it sends it again. */
const contentMissing = (name: string): KilnError =>
  new KilnError("IMAGE_CONTENT_MISSING", `the file system of ${name} is not in the content store`, { object: name });

export const imageRoutes = (parts: ApiParts): Hono => {
  const { core } = parts;
  return new Hono()
    .get("/", (context) => context.json(listImages(core)))
    .post("/pull", async (context) => {
      const request = await parseBody(context, pullImageRequest);
      return answerBegun(context, core, () => beginPullImage(core, request, callerFacts(context)));
    })
    .post("/promote", async (context) => {
      const request = await parseBody(context, promoteImageRequest);
      return answerBegun(context, core, () => beginPromoteImage(core, request, requestFacts(context)));
    })
    .post("/register", async (context) => {
      const request = await parseBody(context, registerImageRequest);
      const facts = requestFacts(context);
      const isThere = await parts.blobs.has(request.rootfs as Digest);
      // one that was begun under the key has its own end by now
      if (!isThere && !hasBegunRegister(core, request, facts)) throw contentMissing(request.name);
      return answerBegun(context, core, () => beginRegisterImage(core, request, facts));
    })
    .post("/customize", async (context) => {
      const request = await parseBody(context, customizeImageRequest);
      return answerBegun(context, core, () => beginCustomizeImage(core, request, callerFacts(context)));
    })
    .post("/verify", async (context) => {
      const request = await parseBody(context, verifyImageRequest);
      return answerBegun(context, core, () => beginVerifyImage(core, request, requestFacts(context)));
    })
    .post("/rebuild", async (context) => {
      const request = await parseBody(context, rebuildImageRequest);
      return answerBegun(context, core, () => beginRebuildImage(core, request, callerFacts(context)));
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
