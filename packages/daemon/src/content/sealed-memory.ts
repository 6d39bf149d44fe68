import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { type FileHandle, open } from "node:fs/promises";
import { createInterface, type Interface } from "node:readline";
import { KilnError } from "@kiln/protocol";
import type { MemoryMap } from "../snapshots/preboot.ts";

/** Memory of a guest as it was saved, which nobody can change: not even who maps it privately and writes. */
export interface SealedMemory extends AsyncDisposable {
  /** Open for reading and writing; QEMU opens it once more through /proc/self/fd. Writing fails with EPERM. */
  readonly descriptor: number;
  readonly bytes: number;
}

const CHUNK_BYTES = 2 ** 20;
const PIECE_BYTES = 2 ** 16;
const ZEROS = new Uint8Array(PIECE_BYTES);

/** Finds what is not zero in a memory file that nobody writes to any more. */
export const mapMemory = async (path: string, { signal }: { signal: AbortSignal }): Promise<MemoryMap> => {
  await using file = await open(path);
  const { size } = await file.stat();
  const hash = createHash("sha256");
  const extents: [number, number][] = [];
  const buffer = new Uint8Array(CHUNK_BYTES);
  for (let at = 0; at < size; at += CHUNK_BYTES) {
    signal.throwIfAborted();
    const chunk = buffer.subarray(0, Math.min(CHUNK_BYTES, size - at));
    await readFully(file, chunk, at);
    for (let inner = 0; inner < chunk.length; inner += PIECE_BYTES) {
      const piece = chunk.subarray(inner, inner + PIECE_BYTES);
      if (Buffer.compare(piece, ZEROS.subarray(0, piece.length)) === 0) continue;
      hash.update(piece);
      const last = extents.at(-1);
      if (last !== undefined && last[0] + last[1] === at + inner) last[1] += piece.length;
      else extents.push([at + inner, piece.length]);
    }
  }
  return { bytes: size, extents, sha256: hash.digest("hex") };
};

/**
 * Copies a saved memory into a memfd, compares its hash on the way, and seals it (memfd_create(2), F_SEAL_WRITE of fcntl(2)).
 * So a missing, short or changed file is never mapped (I7, I34): throws ARTIFACT_DAMAGED with what is wrong.
 */
export const loadSealedMemory = async (
  file: { readonly path: string; readonly map: MemoryMap },
  { program, signal }: { program: string; signal: AbortSignal },
): Promise<SealedMemory> => {
  const { path, map } = file;
  await using source = await openWhole(path, map.bytes);
  await using undo = new AsyncDisposableStack();
  const child = spawn(program, ["memory", String(map.bytes)], { stdio: ["pipe", "pipe", "pipe"], env: {} });
  undo.defer(() => endChild(child));
  child.stdin.on("error", () => undefined); // its end is noticed by what it says
  const said = readStderr(child);
  if (child.pid === undefined) {
    const [cause] = (await once(child, "error")) as [Error];
    throw new KilnError("HOST_TOOL_MISSING", `${program} could not be started`, { cause });
  }
  using lines = createInterface({ input: child.stdout });
  const number = await nextLine(lines, said);
  const memory = await open(`/proc/${child.pid}/fd/${Number(number)}`, "r+");
  undo.use(memory);
  const sha256 = await copyHashed(source, memory, { map, signal });
  if (sha256 !== map.sha256) {
    throw new KilnError("ARTIFACT_DAMAGED", `${path} is not what was saved: its sha256 is ${sha256}`, { object: path });
  }
  child.stdin.write("seal\n");
  if ((await nextLine(lines, said)) !== "sealed") throw new KilnError("INTERNAL", `${program} did not seal: ${await said}`);
  undo.move();
  await endChild(child);
  return { descriptor: memory.fd, bytes: map.bytes, [Symbol.asyncDispose]: () => memory.close() };
};

const openWhole = async (path: string, bytes: number): Promise<FileHandle> => {
  const damaged = (detail: string, cause?: unknown): KilnError =>
    new KilnError("ARTIFACT_DAMAGED", `the saved memory ${path} ${detail}`, { cause, object: path });
  const file = await open(path).catch((cause: unknown) => {
    throw damaged("cannot be read", cause);
  });
  const { size } = await file.stat();
  if (size === bytes) return file;
  await file.close();
  throw damaged(`has ${size} bytes instead of ${bytes}`);
};

const copyHashed = async (from: FileHandle, to: FileHandle, { map, signal }: { map: MemoryMap; signal: AbortSignal }): Promise<string> => {
  const hash = createHash("sha256");
  const buffer = new Uint8Array(CHUNK_BYTES);
  for (const [offset, length] of map.extents) {
    for (let at = 0; at < length; at += CHUNK_BYTES) {
      signal.throwIfAborted();
      const chunk = buffer.subarray(0, Math.min(CHUNK_BYTES, length - at));
      await readFully(from, chunk, offset + at);
      hash.update(chunk);
      await to.write(chunk, 0, chunk.length, offset + at);
    }
  }
  return hash.digest("hex");
};

const readFully = async (file: FileHandle, into: Uint8Array, position: number): Promise<void> => {
  for (let at = 0; at < into.length;) {
    const { bytesRead } = await file.read(into, at, into.length - at, position + at);
    if (bytesRead === 0) throw new KilnError("ARTIFACT_DAMAGED", `a saved memory ends at ${position + at}`);
    at += bytesRead;
  }
};

const nextLine = async (lines: Interface, said: Promise<string>): Promise<string> => {
  const line = await Promise.race([once(lines, "line"), once(lines, "close").then(() => null)]);
  if (line === null) throw new KilnError("INTERNAL", `the daemon's helper for descriptors ended: ${await said}`);
  return String(line[0]);
};

const readStderr = async (child: ChildProcess): Promise<string> => {
  const chunks: Uint8Array[] = [];
  const stderr: AsyncIterable<Uint8Array> | Iterable<Uint8Array> = child.stderr ?? [];
  for await (const chunk of stderr) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8").slice(0, 1024).trim();
};

/** Closing its stdin ends it. */
const endChild = async (child: ChildProcess): Promise<void> => {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.stdin?.end();
  await exited;
};
