import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { type FileHandle, open } from "node:fs/promises";
import { createInterface, type Interface } from "node:readline";
import { KilnError } from "@kiln/protocol";

/** Memory of a guest as it was saved, which nobody can change: not even who maps it privately and writes. */
export interface SealedMemory extends AsyncDisposable {
  /** Open for reading and writing; QEMU opens it once more through /proc/self/fd. Writing fails with EPERM. */
  readonly descriptor: number;
  readonly bytes: number;
}

export interface MemoryFile {
  readonly path: string;
  readonly bytes: number;
  /** sha256 in hex of all bytes, holes read as zeros; null: not known yet. */
  readonly sha256: string | null;
}

const CHUNK_BYTES = 2 ** 20;
const ZEROS = new Uint8Array(CHUNK_BYTES);

/**
 * Copies a saved memory into a memfd, compares its hash on the way, and seals it (memfd_create(2), F_SEAL_WRITE of fcntl(2)).
 * So a missing, short or changed file is never mapped (I7, I34): throws ARTIFACT_DAMAGED with what is wrong.
 */
export const loadSealedMemory = async (
  file: MemoryFile,
  { program, signal }: { program: string; signal: AbortSignal },
): Promise<SealedMemory & { readonly sha256: string }> => {
  await using source = await openWhole(file);
  await using undo = new AsyncDisposableStack();
  const child = spawn(program, ["memory", String(file.bytes)], { stdio: ["pipe", "pipe", "pipe"], env: {} });
  undo.defer(() => endChild(child));
  const said = readStderr(child);
  if (child.pid === undefined) {
    const [cause] = (await once(child, "error")) as [Error];
    throw new KilnError("HOST_TOOL_MISSING", `${program} could not be started`, { cause });
  }
  using lines = createInterface({ input: child.stdout });
  const number = await nextLine(lines, said);
  const memory = await open(`/proc/${child.pid}/fd/${Number(number)}`, "r+");
  undo.use(memory);
  const sha256 = await copyHashed(source, memory, { bytes: file.bytes, signal });
  if (file.sha256 !== null && sha256 !== file.sha256) {
    throw new KilnError("ARTIFACT_DAMAGED", `${file.path} is not what was saved: its sha256 is ${sha256}`, { object: file.path });
  }
  child.stdin.write("seal\n");
  if ((await nextLine(lines, said)) !== "sealed") throw new KilnError("INTERNAL", `${program} did not seal: ${await said}`);
  undo.move();
  await endChild(child);
  return { descriptor: memory.fd, bytes: file.bytes, sha256, [Symbol.asyncDispose]: () => memory.close() };
};

const openWhole = async ({ path, bytes }: MemoryFile): Promise<FileHandle> => {
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

/** What is zero is not written: it stays a hole. */
const copyHashed = async (from: FileHandle, to: FileHandle, { bytes, signal }: { bytes: number; signal: AbortSignal }): Promise<string> => {
  const hash = createHash("sha256");
  const buffer = new Uint8Array(CHUNK_BYTES);
  for (let at = 0; at < bytes;) {
    signal.throwIfAborted();
    const { bytesRead } = await from.read(buffer, 0, buffer.length, at);
    if (bytesRead === 0) throw new KilnError("ARTIFACT_DAMAGED", `a saved memory ends after ${at} of ${bytes} bytes`);
    const chunk = buffer.subarray(0, bytesRead);
    hash.update(chunk);
    if (Buffer.compare(chunk, ZEROS.subarray(0, bytesRead)) !== 0) await to.write(chunk, 0, bytesRead, at);
    at += bytesRead;
  }
  return hash.digest("hex");
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
