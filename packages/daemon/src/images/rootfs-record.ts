import type { RootfsRecord } from "./records.port.ts";

/** Whether both are of one publication. Records are read from the store anew at any time: two objects may be the same record. */
export const isSameRootfs = (one: RootfsRecord | null, other: RootfsRecord | null): boolean =>
  one?.digest === other?.digest &&
  one?.createdAt === other?.createdAt &&
  one?.fingerprint.ino === other?.fingerprint.ino &&
  one?.fingerprint.ctimeNs === other?.fingerprint.ctimeNs;
