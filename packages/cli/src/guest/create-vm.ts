import type { CreateVmRequest, OperationView, RegistryCredentials, VmView } from "@kiln/protocol";
import { KilnError } from "@kiln/protocol/errors";
import type { Kiln } from "@kiln/sdk";
import type { CommandContext } from "../context.ts";
import { localTransport } from "../images/transport.ts";
import { followOperation } from "../operation.ts";
import { ProgressBlock } from "../render/progress.ts";

/** What a request says of the image that it begins with. */
type FromImage = Pick<CreateVmRequest, "image" | "pull" | "platform">;

interface Resolved<Request> {
  readonly request: Request;
  readonly credentials: RegistryCredentials;
}

/**
 * The request as the daemon can fulfil it. A layout or an archive is opened here and sent; as this side has the files,
 * its tag is looked up afresh each time, except with --pull=never. For a registry the caller's credentials are found.
 */
export const resolveImage = async <Request extends FromImage>(
  context: CommandContext,
  kiln: Kiln,
  from: { readonly request: Request; readonly progress: ProgressBlock },
): Promise<Resolved<Request>> => {
  const { request, progress } = from;
  const { image: reference, platform = null } = request;
  if (request.pull === "never" || reference.startsWith("deb:")) return { request, credentials: {} };
  const transport = localTransport(reference);
  if (transport === null) {
    const { credentialsFor, hasImage } = await import("../images/registry.ts");
    const isThere = async () => request.pull !== "always" && hasImage(kiln, { reference, platform }, { signal: context.signal });
    return { request, credentials: await credentialsFor(context, reference, isThere) };
  }
  const { importLocalImage } = await import("../images/import.ts");
  const { image } = await importLocalImage(context, kiln, { transport, reference, platform, progress });
  return { request: { ...request, image: image.reference, pull: "never" }, credentials: {} };
};

/** Creates a VM with progress, and starts it if the request says so; interrupted, it leaves none. */
export const createVm = async (context: CommandContext, request: CreateVmRequest): Promise<VmView> => {
  const kiln = await context.connect();
  const id = await createWith(context, kiln, request);
  return kiln.vms.get(id, { signal: context.signal });
};

const begin = async (
  context: CommandContext,
  kiln: Kiln,
  from: { readonly request: CreateVmRequest; readonly progress: ProgressBlock },
): Promise<OperationView> => {
  const { request, credentials } = await resolveImage(context, kiln, from);
  return kiln.vms.create(request, { signal: context.signal, credentials });
};

/** Resolves with the VM's id. */
export const createWith = async (context: CommandContext, kiln: Kiln, request: CreateVmRequest): Promise<string> => {
  await using progress = new ProgressBlock(context.host, { json: context.json });
  const operation = await begin(context, kiln, { request, progress });
  const { result, id } = await followOperation(context, operation, { kiln, progress, cancel: true });
  if (result === null) throw new KilnError("INTERNAL", `the operation ${id} made a VM without an id`, { operation: id });
  return result;
};

/** Begins to create a VM and leaves it to the daemon: --no-wait. An image of this side's files is sent before. */
export const beginVm = async (context: CommandContext, request: CreateVmRequest): Promise<OperationView> => {
  const kiln = await context.connect();
  await using progress = new ProgressBlock(context.host, { json: context.json });
  return await begin(context, kiln, { request, progress });
};
