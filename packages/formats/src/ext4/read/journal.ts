import type { JournalCopies } from "./medium.ts";
import { Ext4ReadError } from "./errors.ts";
import type { Volume } from "./volume.ts";

export const replayJournal = (_volume: Volume): JournalCopies => {
  throw new Ext4ReadError("UNSUPPORTED", "the file system needs recovery");
};
