import { type KernelManifest, parseKernelManifest } from "../../../packages/daemon/src/kernels/kernel-set.ts";
import { SimDisk } from "../../sim/disk.ts";
import type { Scheduler } from "../../sim/scheduler.ts";
import { type Exhibit, must } from "../exhibit.ts";
import { toBytes, toText } from "../kiln/publish.ts";
import { type Actor, actors, outcomeOf } from "../stage.ts";

/** What a host makes of a record that came from another one. Throws where it does not take it. */
type Receive = (text: string) => KernelManifest;

const RECORD = "/shared/kernels/debian-cloud.json";
const SHA = "a".repeat(64);
const file = { sha256: SHA, size: 1 };
/** The sender fills its record in as it goes: an older version, or another program. */
const STAGES: readonly Readonly<Record<string, unknown>>[] = [
  { key: SHA, name: "debian-cloud", architecture: "amd64", release: "6.1", agentSha256: SHA, builderVersion: "2" },
  { package: { name: "linux-image", version: "6.1", sha256: SHA } },
  { modules: { boot: [], block: [], overlay: [], net: [], vsock: [], mmio: [] } },
  { files: { vmlinux: file, initramfs: file, "modules.ext4": file } },
];
const FIELDS = STAGES.flatMap((stage) => Object.keys(stage));

const scenario = async (scheduler: Scheduler, receive: Receive): Promise<void> => {
  const disk = new SimDisk(scheduler);
  const [sender, receiver] = actors(scheduler, "sender", "receiver") as [Actor, Actor];
  const send = async (): Promise<void> => {
    let record = {};
    for (const [at, stage] of STAGES.entries()) {
      record = { ...record, ...stage };
      await sender.step(`stage ${at + 1} of ${STAGES.length}`);
      if (disk.peek(RECORD) === null) disk.create(RECORD);
      else disk.truncate(RECORD);
      disk.append(RECORD, toBytes(JSON.stringify(record)));
      sender.says(`has written ${Object.keys(record).length} of ${FIELDS.length} fields`);
    }
  };
  const take = async (): Promise<void> => {
    await receiver.step("fetch the kernel's record");
    const text = disk.peek(RECORD);
    if (text === null) return;
    const missing = FIELDS.filter((field) => !Object.hasOwn(JSON.parse(toText(text)) as object, field));
    const outcome = await outcomeOf((async () => receive(toText(text)))());
    receiver.says(outcome.ok ? "takes it" : `refuses it: ${outcome.error.message}`);
    if (outcome.ok)
      must(missing.length === 0, `the receiver distributes a record without ${missing.join(", ")}: they are undefined in each use`);
    else
      must(
        missing.some((field) => outcome.error.message.includes(field)),
        "a record was refused, and nobody knows for what",
      );
  };
  await Promise.all([send(), take()]);
};

export const exhibit: Exhibit = {
  id: "I8",
  title: "A record is passed on while it is still being made",
  story: [
    "A record that is created first and filled in later is a truth with an expiry date. A peer lists it in between, takes it for what",
    "it will be, and distributes it: without a digest there is nothing to compare, without a size the progress is NaN, and `undefined`",
    "reaches a command line as the word.",
    "Order: the sender has written the record's name and not its files; the receiver fetches it; all look healthy.",
    "Kiln believes no record that comes from outside of its process: it is parsed whole at the edge, and refused with the name of the",
    "field that is missing. Its own are written after the file that they are about, in one transaction, with all their fields: there is",
    'no state of a record that says "not yet".',
    "Code: `packages/daemon/src/kernels/kernel-set.ts` (parseKernelManifest), `pipeline/pipeline.ts` (putRootfs, putKernel).",
  ],
  complaint: "the receiver distributes a record without",
  kiln: (scheduler) => scenario(scheduler, (text) => parseKernelManifest(text, "debian-cloud")),
  naive: (scheduler) => scenario(scheduler, (text) => JSON.parse(text) as KernelManifest),
};
