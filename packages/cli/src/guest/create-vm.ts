import type { CreateVmRequest, VmView } from "@kiln/protocol";
import { KilnError } from "@kiln/protocol/errors";
import type { Kiln } from "@kiln/sdk";
import type { CommandContext } from "../context.ts";
import { importLayout } from "../images/import.ts";
import { isLayoutReference } from "../images/layout.ts";
import { followOperation } from "../operation.ts";
import { ProgressLine } from "../render/progress.ts";

/**
 * The request as the daemon can fulfil it. An `oci:` layout is opened here and sent; as this side has the directory,
 * its tag is looked up afresh each time, except with --pull=never.
 */
const resolveImage = async (
  context: CommandContext,
  kiln: Kiln,
  from: { readonly request: CreateVmRequest; readonly progress: ProgressLine },
): Promise<CreateVmRequest> => {
  const { request, progress } = from;
  if (!isLayoutReference(request.image) || request.pull === "never") return request;
  const { image } = await importLayout(context, kiln, { reference: request.image, progress });
  return { ...request, image: image.reference, pull: "never" };
};

/** Creates a VM with progress, and starts it if the request says so; interrupted, it leaves none. */
export const createVm = async (context: CommandContext, request: CreateVmRequest): Promise<VmView> => {
  const kiln = await context.connect();
  const id = await createWith(context, kiln, request);
  return kiln.vms.get(id, { signal: context.signal });
};

/** Resolves with the VM's id. */
export const createWith = async (context: CommandContext, kiln: Kiln, request: CreateVmRequest): Promise<string> => {
  await using progress = new ProgressLine(context.host, { json: context.json });
  const resolved = await resolveImage(context, kiln, { request, progress });
  const operation = await kiln.vms.create(resolved, { signal: context.signal });
  const { result, id } = await followOperation(context, operation, { kiln, progress, cancel: true });
  if (result === null) throw new KilnError("INTERNAL", `the operation ${id} made a VM without an id`, { operation: id });
  return result;
};
