import type { OperationId } from "@kiln/protocol";
import type { BlobWork, ContentInfo, ShareBlob } from "../images/ports.ts";
import type { JoinedWork } from "./work.port.ts";

/** A blob is fetched once for all who want it, whatever image they want it for. */
export const shareBlob = async (
  { work, operation }: { readonly work: JoinedWork; readonly operation: OperationId },
  blob: BlobWork,
  { signal, onProgress }: Parameters<ShareBlob>[1],
): Promise<ContentInfo> =>
  work.run(
    {
      kind: "blob.fetch",
      key: blob.digest,
      subject: blob.subject,
      find: () => blob.find(),
      make: (context) => blob.make({ signal: context.signal, report: (progress) => context.report(progress) }),
      describe: (info) => info.digest,
    },
    { signal, operation, onProgress: ({ progress }) => (progress === null ? undefined : onProgress(progress)) },
  );
