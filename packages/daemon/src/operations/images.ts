import { type ImageView, type ImportImageAnswer, KilnError, type OperationView } from "@kiln/protocol";
import type { ImportPlan } from "../images/import-plan.ts";
import type { Core } from "./core.ts";
import { toImageView } from "./report.ts";

export const listImages = (core: Core): ImageView[] => core.images.listImages().map((record) => toImageView(core, record));

/** An explicit pull shares its work with every create that wants the same image. */
export const beginPullImage = (
  core: Core,
  request: { reference: string; pull: "missing" | "always" },
  idempotencyKey: string | null,
): OperationView => {
  const { reference } = request;
  return core.operations.begin(
    { kind: "image.ensure", key: reference, subject: reference },
    async (context) => {
      const onProgress = (progress: { phase: string; progress: OperationView["progress"] }): void => {
        context.phase(progress.phase);
        context.report(progress.progress);
      };
      const options = { signal: context.signal, onProgress };
      const image = await core.pipeline.ensureImage(reference, { ...options, pull: request.pull });
      const rootfs = await core.pipeline.ensureRootfs(image, options);
      return rootfs.digest;
    },
    idempotencyKey === null ? null : { key: idempotencyKey, request },
  );
};

/** Names an image whose blobs the caller has sent, or says which are missing. */
export const importImage = async (core: Core, reference: string, plan: () => Promise<ImportPlan>): Promise<ImportImageAnswer> => {
  const planned = await plan();
  if (planned.state === "incomplete") return { missing: planned.missing.map(({ digest, size }) => ({ digest, size })), image: null };
  return { missing: [], image: toImageView(core, core.pipeline.recordImage(reference, planned.image)) };
};

/** Removes a name, then what only it needed. Throws IMAGE_NOT_FOUND, IMAGE_IN_USE. */
export const removeImage = async (core: Core, reference: string, collect: () => Promise<void>): Promise<void> => {
  const record = core.images.getImage(reference);
  if (record === null) throw new KilnError("IMAGE_NOT_FOUND", `there is no image ${reference}`, { object: reference });
  core.images.removeImage(reference);
  if (core.images.removeUnusedRootfs(record.rootfsKey)) await core.rootfsFiles.remove(record.rootfsKey);
  await collect();
};
