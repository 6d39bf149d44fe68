import { type Explanation, isOperationId, KilnError } from "@kiln/protocol";
import type { ImageRecord } from "../../images/records.port.ts";
import { findImage } from "../../images/reference.ts";
import type { Core } from "../core.ts";
import { explainContent, explainGone, explainImage } from "./explain-content.ts";
import { explainOperation } from "./explain-operation.ts";
import { explainVm } from "./explain-vm.ts";

/**
 * Why a VM, an operation, an image or a digest is as it is, from the records, the operations and the journal. What is
 * gone is explained from what is remembered of it. Throws NOT_FOUND, OPERATION_NOT_FOUND.
 */
export const explain = (core: Core, subject: string): Explanation => {
  if (isOperationId(subject)) return explainOperation(core, core.operations.get(subject));
  const vm = core.vms.find(subject);
  if (vm !== null) return explainVm(core, vm);
  const image = findNamed(core, subject);
  if (image !== null) return explainImage(core, image);
  if (isKept(core, subject)) return explainContent(core, subject);
  const gone = explainGone(core, subject);
  if (gone !== null) return gone;
  throw new KilnError("NOT_FOUND", `there is no VM, operation, image or digest ${subject}, and nothing is remembered of it`, {
    ...{ object: subject, hint: "see `kiln ps -a`, `kiln op ls -a` and `kiln images`" },
  });
};

const findNamed = (core: Core, text: string): ImageRecord | null => {
  try {
    return findImage(text, core.images);
  } catch (error) {
    if (error instanceof KilnError && error.code === "REFERENCE_INVALID") return null;
    throw error;
  }
};

const isKept = (core: Core, name: string): boolean =>
  core.images.getRootfs(name) !== null || core.kernels.getKernel(name) !== null || /^sha256:[0-9a-f]{64}$/.test(name);
