/** Reading and writing tars, as container layers and archives of images use them. Names are raw bytes (`RawName`), errors are `TarError`. */
export { TarParser } from "./parser.ts";
export { TarError } from "./errors.ts";
export type { TarErrorCode } from "./errors.ts";
export { rawNameBytes, rawNameText } from "./entry.ts";
export type { RawName, TarEntry, TarEntryType, TarTime, TarVisitor } from "./entry.ts";
export { listTarMembers, type ReadAt, type TarMember } from "./members.ts";
export { TAR_END_BYTES, encodeEntry, paddingAfter, type WrittenEntry } from "./encode.ts";
export { writeTar, type WrittenMember } from "./writer.ts";
