import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { it } from "node:test";
import { hasCode } from "./index.ts";
import { scratchDirectory } from "./scratch.fixture.ts";

const SCRIPT = join(import.meta.dirname, "publish-once.fixture.ts");
const OLD = "old content";
const NEW = "new content ".repeat(1_000);
type Kind = "keep" | "replace" | "directory";

interface Place {
  readonly target: string;
  readonly staging: string;
}

/** Kill when this call is entered for the nth time. */
interface Kill {
  readonly call: string;
  readonly nth: number;
}

/** Runs the script with strace on its one pool thread. Returns the trace's lines; null if tracing is not allowed. */
async function publishTraced(kind: Kind, place: Place, kill?: Kill): Promise<string[] | null> {
  const env = { ...process.env, UV_THREADPOOL_SIZE: "1" };
  const publisher = spawn(process.execPath, [SCRIPT, kind, place.target, place.staging, NEW], {
    env,
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = once(publisher, "exit");
  const thread = await firstLine(publisher.stdout);
  const inject = kill === undefined ? [] : ["-e", `inject=${kill.call}:signal=KILL:when=${kill.nth}`];
  const tracer = spawn("strace", ["-p", thread, "-e", "trace=file,desc", ...inject], { stdio: ["ignore", "ignore", "pipe"] });
  const traced = readTrace(tracer);
  const allowed = await traced.attached;
  if (allowed) publisher.stdin.write("go\n");
  else publisher.kill("SIGKILL");
  const end: unknown[] = await ended;
  const lines = await traced.lines;
  if (!allowed) return null;
  assert.equal(end[0], kill === undefined ? 0 : null, lines.join("\n"));
  return lines;
}

async function firstLine(stream: NodeJS.ReadableStream): Promise<string> {
  for await (const line of createInterface({ input: stream })) return line;
  throw new Error("the publisher said nothing");
}

function readTrace(tracer: ChildProcess): { attached: Promise<boolean>; lines: Promise<string[]> } {
  const { promise: attached, resolve } = Promise.withResolvers<boolean>();
  const read = async () => {
    const lines: string[] = [];
    if (tracer.stderr === null) return lines;
    for await (const line of createInterface({ input: tracer.stderr })) {
      if (/^strace: Process \d+ attached/.test(line)) resolve(true);
      else lines.push(line);
    }
    resolve(false);
    return lines;
  };
  tracer.once("error", () => resolve(false));
  return { attached, lines: read() };
}

/** The pool's thread wakes the main one by this write after each job; between it and the next call nothing changes on disk. */
const WAKE_UP = /^write\(\d+, "\\1(\\0){7}", 8\)/;

/** Each call of the trace that could matter, with its number among those of its name. */
function killsOf(trace: readonly string[]): Kill[] {
  const counts = new Map<string, number>();
  return trace.flatMap((line) => {
    const call = /^([a-z0-9_]+)\(/.exec(line)?.[1];
    if (call === undefined) return [];
    const nth = (counts.get(call) ?? 0) + 1;
    counts.set(call, nth);
    return WAKE_UP.test(line) ? [] : [{ call, nth }];
  });
}

async function readOrNull(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (hasCode(error, "ENOENT")) return null;
    throw error;
  }
}

/** What a reader finds under the final name. */
async function seen(kind: Kind, { target }: Place): Promise<string | null> {
  if (kind !== "directory") return readOrNull(target);
  const [a, b] = [await readOrNull(join(target, "a")), await readOrNull(join(target, "b"))];
  return a === b ? a : `torn: ${a?.length} and ${b?.length} characters`;
}

async function withPlace<T>(kind: Kind, run: (place: Place) => Promise<T>): Promise<T> {
  await using scratch = await scratchDirectory();
  const names = join(scratch.path, "names");
  await mkdir(names);
  const target = join(names, "final");
  if (kind === "replace") await writeFile(target, OLD);
  return await run({ target, staging: scratch.staging });
}

/** Two at a time: a publisher and its tracer take turns. */
async function inPairs<T>(items: readonly T[], run: (item: T) => Promise<void>): Promise<void> {
  const left = items.values();
  const lane = async () => {
    for (const item of left) await run(item);
  };
  await Promise.all([lane(), lane()]);
}

const at = (trace: readonly string[], call: RegExp) => trace.findIndex((line) => call.test(line));

for (const kind of ["keep", "replace", "directory"] as const) {
  it(`I4 I15 a publisher (${kind}) killed at any system call leaves the name absent, old or whole`, async (test) => {
    const trace = await withPlace(kind, (place) => publishTraced(kind, place));
    if (trace === null) return test.skip("strace is missing or may not attach to a process here");
    const naming = kind === "keep" ? /^link/ : /^rename/;
    const synced = at(trace, /^fsync/);
    assert.ok(0 <= synced && synced < at(trace, naming), "synced before it has its name");
    assert.ok(at(trace, naming) < trace.findLastIndex((line) => line.startsWith("fsync")), "then the directory");

    const before = kind === "replace" ? OLD : null;
    const found = new Set<string | null>();
    const kills = killsOf(trace);
    await inPairs(kills, (kill) =>
      withPlace(kind, async (place) => {
        await publishTraced(kind, place, kill);
        const content = await seen(kind, place);
        const where = `${kill.call} number ${kill.nth}`;
        assert.ok(content === before || content === NEW, `killed at ${where}: ${content?.slice(0, 20)}`);
        assert.ok((await readdir(place.staging)).length <= 1, `killed at ${where}: one leftover at most`);
        found.add(content);
      }),
    );
    test.diagnostic(`killed at ${kills.length} system calls: ${kills.map(({ call }) => call).join(" ")}`);
    assert.deepEqual(found, new Set([before, NEW]));
  });
}
