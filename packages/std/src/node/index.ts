/** Primitives on top of Linux: files, processes, locks. Node only. */
export { hasCode } from "./errno.ts";
export {
  armedFailpoints,
  declareFailpoint,
  failpoint,
  FailpointError,
  failpointNow,
  listFailpoints,
  type ArmedFailpoint,
  type Failpoint,
  type FailpointAction,
} from "./failpoints.ts";
export { fileFingerprint, fileFingerprintNow, fingerprintOf, sameFingerprint } from "./fingerprint.ts";
export { fsyncDirectory, fsyncTree } from "./fsync.ts";
export { tryLockFile, type FileLock } from "./lock-file.ts";
export {
  identifyProcess,
  processState,
  signalProcess,
  type ProcessIdentity,
  type ProcessStat,
  type ProcessTable,
} from "./process-identity.ts";
export { publishDirectory, publishDirectoryOn, type PublishDirectoryOptions } from "./publish-directory.ts";
export {
  publishBytes,
  publishFile,
  publishFileOn,
  type IfExists,
  type PublishedFile,
  type PublishFileOptions,
  type PublishTarget,
} from "./publish-file.ts";
export { type PublishingDirectories, type PublishingFiles } from "./publishing-files.ts";
export { linkOrCopy, publishLink } from "./publish-link.ts";
export { makeDirectories } from "./make-directories.ts";
export { readPiece } from "./read-piece.ts";
export { removeFileNow } from "./remove-file.ts";
export { longSocketPath, type SocketPath } from "./socket-path.ts";
export { TargetExistsError } from "./staging.ts";
export { runTool, ToolError, type ToolOptions, type ToolOutput } from "./tool.ts";
