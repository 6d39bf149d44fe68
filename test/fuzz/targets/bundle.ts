import { createHash } from "node:crypto";
import { spawnSync } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { KilnError } from "@kiln/protocol";
import { readBundle } from "../../../packages/daemon/src/content/bundle/read-bundle.ts";
import type { ContentShelf } from "../../../packages/daemon/src/images/ports.ts";
import { mutateBytes } from "../engine/bytes.ts";
import type { Dice } from "../engine/dice.ts";
import { mustHold, type FuzzTarget, type Others, type Outcome } from "../engine/target.ts";

/** A hole costs a bundle nothing: whoever takes content in has to stop somewhere. */
const MAX_CONTENT_BYTES = 4 << 20;
const REFUSALS: ReadonlySet<string> = new Set(["BUNDLE_INVALID", "CONTENT_DIGEST_MISMATCH", "REQUEST_TOO_LARGE"]);
const BLOCK_BYTES = 512;

const signal = new AbortController().signal;
const sha256 = (bytes: Uint8Array): string => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

interface Taken {
  readonly content: Buffer[];
  readonly held: string[];
}

/** A content store in memory, by the rules of the real one. */
const storeOf = (taken: Taken): Pick<ContentShelf, "ingest"> => ({
  ingest: async (source, { expected }) => {
    mustHold(taken.held.includes(expected.digest), () => `${expected.digest} is taken in before it is held`);
    const parts: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of source) {
      bytes += chunk.length;
      if (bytes > MAX_CONTENT_BYTES) throw new KilnError("REQUEST_TOO_LARGE", "the content is too long for this");
      parts.push(Buffer.from(chunk));
    }
    const content = Buffer.concat(parts);
    if (content.length !== expected.size || sha256(content) !== expected.digest)
      throw new KilnError("CONTENT_DIGEST_MISMATCH", "the content is another");
    taken.content.push(content);
    return { digest: expected.digest, size: content.length };
  },
});

async function* inPieces(bytes: Buffer): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 1000) yield bytes.subarray(at, at + 1000);
}

/** tar(1) and sha256sum(1) take what is accepted, as people are told to look at a bundle. */
const askTools = (input: Buffer, directory: string): void => {
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory);
  const unpacked = spawnSync("tar", ["--zstd", "-xf", "-", "-C", directory], { input, encoding: "utf8" });
  if (unpacked.error !== undefined) return;
  mustHold(unpacked.status === 0, () => `tar refuses what is accepted: ${unpacked.stderr}`);
  const { status, stderr } = spawnSync("sha256sum", ["--check", "--strict", "sha256"], { cwd: directory, encoding: "utf8" });
  mustHold(status === 0, () => `sha256sum finds other bytes in what is accepted: ${stderr}`);
};

const run: FuzzTarget["run"] = async (input, { thorough, scratch }): Promise<Outcome> => {
  const taken: Taken = { content: [], held: [] };
  try {
    const { rootfs } = await readBundle(inPieces(input), storeOf(taken), { signal, hold: (digest) => taken.held.push(digest) });
    const [content] = taken.content;
    mustHold(taken.content.length === 1 && content?.length === rootfs.sizeBytes, () => "one rootfs of the size that is told is taken in");
    mustHold(sha256(content ?? Buffer.alloc(0)) === rootfs.digest, () => "the rootfs has the digest that is told");
  } catch (error) {
    if (error instanceof KilnError && REFUSALS.has(error.code)) return "refused";
    throw error;
  }
  if (thorough) askTools(input, join(scratch, "bundle"));
  return "accepted";
};

const unpack = (input: Buffer): Buffer => {
  try {
    return zstdDecompressSync(input, { maxOutputLength: MAX_CONTENT_BYTES });
  } catch {
    return input; // what cannot be unpacked is a tar itself
  }
};

const SUM_AT = 148;

/** What is changed in a header is mostly seen by its checksum and by nobody else: it is made right again. */
const seal = (tar: Buffer, at: number): Buffer => {
  const header = tar.subarray(at, at + BLOCK_BYTES);
  if (header.length < BLOCK_BYTES) return tar;
  header.fill(" ", SUM_AT, SUM_AT + 8);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, SUM_AT, "latin1");
  return tar;
};

const changeHeader = (tar: Buffer, dice: Dice): Buffer => {
  const at = dice.below(Math.ceil(tar.length / BLOCK_BYTES)) * BLOCK_BYTES;
  const copy = Buffer.from(tar);
  copy[at + dice.below(dice.once(2) ? 160 : BLOCK_BYTES)] = dice.pick([0, 0x2f, 0x30, 0x31, 0x35, 0x37, 0x78, 0x80, 0xff]);
  return seal(copy, at);
};

/** Sums that fit what they are of, after a change of either. */
const changeText = (tar: Buffer, dice: Dice, others: Others): Buffer => {
  const text = tar.toString("latin1");
  const words = text.match(/"[A-Za-z0-9:]+"|\d+|[0-9a-f]{64}/g) ?? [];
  const [from, to] = [words[dice.below(words.length)] ?? "", words[dice.below(words.length)] ?? ""];
  if (from === "" || dice.once(4)) return mutateBytes(tar, dice, others);
  const padded = to.length < from.length ? to.padEnd(from.length) : to.slice(0, from.length);
  return Buffer.from(
    text.replace(from, () => padded),
    "latin1",
  );
};

const mutate = (input: Buffer, dice: Dice, others: Others): Buffer => {
  switch (dice.below(6)) {
    case 0:
      return mutateBytes(input, dice, others);
    case 1: // one more frame, or half of one
      return Buffer.concat([input, others().subarray(0, dice.below(200))]);
    case 2:
      return zstdCompressSync(changeHeader(unpack(input), dice));
    case 3:
      return zstdCompressSync(changeText(unpack(input), dice, others));
    case 4: {
      // blocks that go, or come twice
      const tar = unpack(input);
      const at = dice.below(tar.length / BLOCK_BYTES) * BLOCK_BYTES;
      const block = tar.subarray(at, at + BLOCK_BYTES);
      return zstdCompressSync(
        Buffer.concat([tar.subarray(0, at), ...(dice.once(2) ? [] : [block, block]), tar.subarray(at + BLOCK_BYTES)]),
      );
    }
    default:
      return zstdCompressSync(mutateBytes(unpack(input), dice, () => unpack(others())));
  }
};

export const BUNDLE: FuzzTarget = {
  about: "bundles: zstd framing, the tar with its three entries, holes, the manifest, the sums",
  holds:
    "what is accepted has one rootfs, held before it is taken in, with the size and digest that are told; tar(1) and sha256sum(1) take it",
  maxBytes: 64 << 10,
  run,
  mutate,
};
