import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";

export const CORPUS = join(import.meta.dirname, "../corpus");

export interface CorpusFile {
  readonly name: string;
  readonly input: Buffer;
  /** As it is committed. */
  readonly storedBytes: number;
}

/** A file system has more zeros than a repository should: what ends with .gz is stored compressed. */
const GZIP = ".gz";

/** The committed inputs of a target, in order of their names. */
export const readCorpus = (target: string): CorpusFile[] => {
  const directory = join(CORPUS, target);
  mkdirSync(directory, { recursive: true });
  return readdirSync(directory)
    .sort()
    .map((name) => {
      const bytes = readFileSync(join(directory, name));
      return { name, input: name.endsWith(GZIP) ? gunzipSync(bytes) : bytes, storedBytes: bytes.length };
    });
};

/** Largest input that is stored as it is. */
const PLAIN_BYTES = 1024;

/** Adds an input, under a name made from its content; returns the name. */
export const addToCorpus = (target: string, input: Uint8Array, prefix: string): string => {
  const digest = createHash("sha256").update(input).digest("hex").slice(0, 12);
  const name = `${prefix}-${digest}${input.length > PLAIN_BYTES ? GZIP : ""}`;
  mkdirSync(join(CORPUS, target), { recursive: true });
  writeFileSync(join(CORPUS, target, name), input.length > PLAIN_BYTES ? gzipSync(input, { level: 9 }) : input);
  return name;
};
