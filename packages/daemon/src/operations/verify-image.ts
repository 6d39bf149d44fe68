import { type ImageVerification, KilnError, type OperationView, type VerifyImage } from "@kiln/protocol";
import type { Core } from "./core.ts";
import { type CallerFacts, requireImage, workFor } from "./images.ts";
import type { OperationContext } from "./operation.ts";
import { runSaga, type Saga, type SagaRecord } from "./saga/saga.ts";
import { tellDamaged } from "./tell-damaged.ts";

export interface VerifyContext {
  readonly core: Core;
  readonly request: VerifyImage;
  readonly operation: OperationContext;
  /** The image's digest, once it was looked at. */
  digest: string | null;
}

/**
 * Reads an image in full and compares its rootfs with what its layers give. It changes nothing. The operation has what
 * it found as its report, and fails with ARTIFACT_DAMAGED where that is not what it should be.
 */
export const beginVerifyImage = (
  core: Core,
  request: VerifyImage,
  { idempotencyKey, caller }: Omit<CallerFacts, "credentials">,
): OperationView => {
  const idempotency = idempotencyKey === null ? null : { key: idempotencyKey, request };
  const known = core.operations.recall("image.verify", idempotency);
  if (known !== null) return known;
  const { reference } = requireImage(core, request.reference);
  return core.operations.beginSaga(
    {
      spec: { kind: "image.verify", key: reference, subject: reference, caller },
      idempotency,
      saga: { name: VERIFY_SAGA.name, input: { reference } },
    },
    (operation, saga) => continueVerify(core, saga, operation),
  );
};

export const continueVerify = async (core: Core, saga: SagaRecord, operation: OperationContext): Promise<string | null> => {
  const context: VerifyContext = { core, request: saga.input as VerifyImage, operation, digest: null };
  const { signal } = operation;
  const onStep = (name: string): void => operation.phase(name);
  await runSaga(VERIFY_SAGA, { context, record: saga, log: core.sagas, signal, onStep, checkpoint: core.checkpoint });
  return context.digest;
};

const verify = async (context: VerifyContext): Promise<void> => {
  const { core, request, operation } = context;
  const image = requireImage(core, request.reference);
  const found = await core.checks.verify(image, workFor(operation));
  operation.found(found);
  context.digest = found.digest;
  const damage = damageOf(found);
  if (damage === null) return;
  tellFound(core, found);
  throw damage;
};

/** It reads only: a failure leaves nothing to take back. */
export const VERIFY_SAGA: Saga<VerifyContext> = {
  name: "image.verify",
  onFailure: "carry on",
  steps: [{ name: "check", run: verify, resume: verify }],
};

const tellFound = (core: Core, { recorded, found, rootfsKey, blobs }: ImageVerification): void => {
  if (found !== recorded) tellDamaged(core, { kind: "rootfs", id: rootfsKey, state: found === null ? "missing" : "damaged" });
  for (const { digest, state } of blobs) if (state !== "whole") tellDamaged(core, { kind: "blob", id: digest, state });
};

/** What is wrong with an image, in words, and the next step; null where nothing is. */
const damageOf = (verification: ImageVerification): KilnError | null => {
  if (verification.ok) return null;
  const { reference, recorded, found, rebuilt, difference, blobs } = verification;
  const words = [
    ...(found === recorded ? [] : [found === null ? "its rootfs is missing" : `its rootfs is ${found} and was ${recorded}`]),
    ...(rebuilt === null || rebuilt === recorded ? [] : [`its layers give ${rebuilt}, and ${recorded} is recorded`]),
    ...(difference === null ? [] : [`the first other byte is at ${difference.offset}: ${difference.place}`]),
    ...blobs.filter(({ state }) => state !== "whole").map(({ digest, kind, state }) => `the ${kind} ${digest} is ${state}`),
  ];
  return new KilnError("ARTIFACT_DAMAGED", `the image ${reference} is not whole: ${words.join("; ")}`, {
    ...{ object: reference, hint: `build it again with \`kiln image rebuild ${reference}\`` },
  });
};
