import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { runTool } from "@kiln/std/node";
import { readLayers } from "../compare/unpack.ts";
import { manyBytes, manyFiles, type GeneratedImage } from "../fixtures/generated-image.ts";
import { debianDev, skipImages } from "../fixtures/images.ts";
import { CACHE } from "./home.ts";
import { alternate, compare, timed, type Figure, type Samples } from "./measure.ts";
import { buildOnce, copyAndExtract, inflateHashWrite, isInstalled, unpackAndFormat, type Subject } from "./rootfs-ways.ts";

/** The one to beat, and the one that needs no umoci. */
const UMOCI = "umoci+mke2fs";
const SKOPEO = "skopeo+tar+genext2fs";
const NONE: Samples = { ms: [], failures: 1 };
const MIB = 2 ** 20;

const signal = new AbortController().signal;

interface Plan {
  readonly name: string;
  readonly subject: Omit<Subject, "unpackedBytes">;
  readonly description: string;
  /** How often Kiln and the floor run; the peers, which take ten times as long, run in the first so many of them. */
  readonly rounds: { readonly all: number; readonly peers: number };
  /** Why a peer cannot do it. */
  readonly cannot?: Readonly<Record<string, string>>;
}

/** Debian with Python, Node and git: five layers of gzip to one ext4 file, synced. */
export const benchRootfsBuild = async (): Promise<Figure> => {
  const name = "rootfs.build";
  if (skipImages !== false) return compare({ name, ours: { ms: [], failures: 0 }, theirs: {}, skipped: [`${name}: ${skipImages}`] });
  const image = await debianDev({ signal });
  const layout = { directory: image.layout, tag: image.tag };
  const layers = await readLayers(layout);
  return measure({
    name,
    subject: { layout, layers, entries: 17_000 },
    description: "debian with python, node and git",
    rounds: { all: 7, peers: 2 },
    cannot: { [SKOPEO]: "the image has whiteouts, which tar does not know, and attributes, which genext2fs does not write" },
  });
};

/** 2 GiB of content in large files, in six layers. */
export const benchRootfsContent = async (): Promise<Figure> =>
  measure({
    name: "rootfs.content",
    subject: await subjectOf(await manyBytes({ signal }), (stage) => stage.contentBytes >= 2 ** 31),
    description: "2 GiB of content",
    rounds: { all: 2, peers: 1 },
  });

/** 200,000 files and directories, in five layers. */
export const benchRootfsFiles = async (): Promise<Figure> =>
  measure({
    name: "rootfs.files",
    subject: await subjectOf(await manyFiles({ signal }), (stage) => stage.entries >= 200_000),
    description: "200,000 small files",
    rounds: { all: 2, peers: 1 },
  });

const subjectOf = async (
  { layout: directory, stages }: GeneratedImage,
  isIt: (stage: GeneratedImage["stages"][number]) => boolean,
): Promise<Plan["subject"]> => {
  const stage = stages.find(isIt);
  if (stage === undefined) throw new Error(`${directory} has no such stage`);
  const layout = { directory, tag: stage.tag };
  return { layout, layers: await readLayers(layout), entries: stage.entries };
};

/** A directory for the images that are built, removed with all that is in it. */
export const openScratch = async (name: string): Promise<AsyncDisposable & { readonly path: string }> => {
  const path = join(CACHE, "staging", name);
  await rm(path, { recursive: true, force: true });
  await mkdir(path, { recursive: true });
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
};

const missingPeers = async (plan: Plan): Promise<Record<string, string>> => ({
  ...((await isInstalled("umoci", "mke2fs")) ? {} : { [UMOCI]: "not installed" }),
  ...((await isInstalled("skopeo", "genext2fs")) ? {} : { [SKOPEO]: "not installed" }),
  ...(process.getuid?.() === 0 ? {} : { [UMOCI]: "needs root", [SKOPEO]: "needs root" }),
  ...plan.cannot,
});

/** Kiln, the floor and the peers by turns. */
const runAll = async (plan: Plan, subject: Subject, options: { scratch: string; skipped: object; onRun: (bytes: number) => void }) => {
  /** Nobody pays for what the one before left to be written. */
  const fresh = (name: string, work: (target: string) => Promise<number>) => async (): Promise<number> => {
    const target = join(options.scratch, name);
    await rm(target, { recursive: true, force: true });
    await runTool("sync", [], { signal });
    const ms = await work(target);
    await rm(target, { recursive: true, force: true });
    return ms;
  };
  const both = {
    kiln: fresh("kiln.ext4", async (target) => {
      const { ms, peakBytes } = await buildOnce(subject.layers, target);
      options.onRun(peakBytes);
      return ms;
    }),
    floor: fresh("floor", (target) => timed(() => inflateHashWrite(subject.layers, target))),
  };
  const peers = Object.entries({
    [UMOCI]: fresh("umoci", (target) => timed(() => unpackAndFormat(subject, target))),
    [SKOPEO]: fresh("skopeo", (target) => timed(() => copyAndExtract(subject, target))),
  }).filter(([name]) => !Object.hasOwn(options.skipped, name));
  const first = await alternate(plan.rounds.peers, { ...both, ...Object.fromEntries(peers) });
  const rest = await alternate(plan.rounds.all - plan.rounds.peers, both);
  const joined = (one: Samples = NONE, two: Samples = { ms: [], failures: 0 }): Samples => ({
    ms: [...one.ms, ...two.ms],
    failures: one.failures + two.failures,
  });
  return Object.fromEntries(Object.entries(first).map(([name, samples]) => [name, joined(samples, rest[name])]));
};

const measure = async (plan: Plan): Promise<Figure> => {
  await using scratch = await openScratch(plan.name);
  const unpackedBytes = await inflateHashWrite(plan.subject.layers, join(scratch.path, "first"));
  await rm(join(scratch.path, "first"));
  const subject = { ...plan.subject, unpackedBytes };
  const skipped = await missingPeers(plan);
  const peaks: number[] = [];
  const samples = await runAll(plan, subject, { scratch: scratch.path, skipped, onRun: (bytes) => peaks.push(bytes) });
  const { kiln = NONE, ...theirs } = samples;
  const details = {
    image: plan.description,
    layers: subject.layers.length,
    entries: subject.entries,
    "unpacked MB": Math.round(unpackedBytes / 1e6),
    "peak RSS MiB": Math.round(Math.max(...peaks) / MIB),
    "runs of peers": plan.rounds.peers,
  };
  return compare({
    name: plan.name,
    ours: kiln,
    theirs,
    details,
    goal: { field: "floor", max: 1.25 },
    furtherGoals: [
      { field: UMOCI, max: 0.25 },
      { field: "peak RSS MiB", max: 200 },
    ],
    skipped: Object.entries(skipped).map(([peer, why]) => `${peer}: ${why}`),
  });
};
