import type { Exhibit } from "./exhibit.ts";
import { exhibit as i01 } from "./exhibits/i01-one-build.ts";
import { exhibit as i01b } from "./exhibits/i01b-already-there.ts";
import { exhibit as i01c } from "./exhibits/i01c-late-join.ts";
import { exhibit as i02 } from "./exhibits/i02-global-lock.ts";
import { exhibit as i03 } from "./exhibits/i03-one-name.ts";
import { exhibit as i04 } from "./exhibits/i04-half-written.ts";
import { exhibit as i04b } from "./exhibits/i04b-power.ts";
import { exhibit as i04c } from "./exhibits/i04c-directory.ts";
import { exhibit as i04d } from "./exhibits/i04d-record.ts";
import { exhibit as i05 } from "./exhibits/i05-seed.ts";
import { exhibit as i06 } from "./exhibits/i06-clean-up.ts";
import { exhibit as i07 } from "./exhibits/i07-damaged.ts";
import { exhibit as i07b } from "./exhibits/i07b-late-verdict.ts";
import { exhibit as i08 } from "./exhibits/i08-partial-record.ts";
import { exhibit as i09 } from "./exhibits/i09-same-bytes.ts";
import { exhibit as i10 } from "./exhibits/i10-lock-entry.ts";
import { exhibit as i11 } from "./exhibits/i11-first-caller.ts";
import { exhibit as i11b } from "./exhibits/i11b-last-caller.ts";
import { exhibit as i11c } from "./exhibits/i11c-newcomer.ts";
import { exhibit as i12 } from "./exhibits/i12-transaction.ts";
import { exhibit as i13 } from "./exhibits/i13-kept-failure.ts";
import { exhibit as i14 } from "./exhibits/i14-redo.ts";
import { exhibit as i15 } from "./exhibits/i15-killed-download.ts";
import { exhibit as i16 } from "./exhibits/i16-boots-overlap.ts";
import { exhibit as i17 } from "./exhibits/i17-names.ts";
import { exhibit as i17b } from "./exhibits/i17b-capacity.ts";
import { exhibit as i18 } from "./exhibits/i18-one-at-a-time.ts";
import { exhibit as i19 } from "./exhibits/i19-cancelled-start.ts";
import { exhibit as i20 } from "./exhibits/i20-words.ts";
import { exhibit as i21 } from "./exhibits/i21-version.ts";
import { exhibit as i22 } from "./exhibits/i22-delete-in-flight.ts";
import { exhibit as i23 } from "./exhibits/i23-image-in-use.ts";
import { exhibit as i23b } from "./exhibits/i23b-sweep.ts";
import { exhibit as i24 } from "./exhibits/i24-prune.ts";
import { exhibit as i26 } from "./exhibits/i26-exec-once.ts";
import { exhibit as i27 } from "./exhibits/i27-parallel-execs.ts";
import { exhibit as i29 } from "./exhibits/i29-one-session.ts";
import { exhibit as i30 } from "./exhibits/i30-failed-restore.ts";
import { exhibit as i35 } from "./exhibits/i35-killed-create.ts";
import { exhibit as i36 } from "./exhibits/i36-restart.ts";
import { exhibit as i37 } from "./exhibits/i37-recycled-pid.ts";
import { exhibit as i43 } from "./exhibits/i43-stages.ts";

/** All of the museum, in the order of its page. */
const ALL: readonly Exhibit[] = [
  i01,
  i01b,
  i01c,
  i02,
  i03,
  i04,
  i04b,
  i04c,
  i04d,
  i05,
  i06,
  i07,
  i07b,
  i08,
  i09,
  i10,
  i11,
  i11b,
  i11c,
  i12,
  i13,
  i14,
  i15,
  i16,
  i17,
  i17b,
  i18,
  i19,
  i20,
  i21,
  i22,
  i23,
  i23b,
  i24,
  i26,
  i27,
  i29,
  i30,
  i35,
  i36,
  i37,
  i43,
];

export const exhibits: ReadonlyMap<string, Exhibit> = new Map(ALL.map((exhibit) => [exhibit.id, exhibit]));
