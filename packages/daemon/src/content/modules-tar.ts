import { KilnError } from "@kiln/protocol";

/** The ustar format (POSIX.1-2017, pax, "ustar Interchange Format"), as far as the modules' image needs it. */

const BLOCK_BYTES = 512;
const encoder = new TextEncoder();

/** Files by path as a tar, in the order of their paths with their directories before them; owner root, time 0. */
export const writeModulesTar = function* (files: ReadonlyMap<string, Uint8Array>): Generator<Uint8Array> {
  const directories = new Set<string>();
  for (const path of [...files.keys()].sort()) {
    for (let slash = path.indexOf("/"); slash !== -1; slash = path.indexOf("/", slash + 1)) {
      const directory = path.slice(0, slash + 1);
      if (!directories.has(directory)) yield encodeHeader(directory, { mode: 0o755, type: "5", size: 0 });
      directories.add(directory);
    }
    const bytes = files.get(path) ?? new Uint8Array();
    yield encodeHeader(path, { mode: 0o644, type: "0", size: bytes.length });
    yield bytes;
    yield new Uint8Array((BLOCK_BYTES - (bytes.length % BLOCK_BYTES)) % BLOCK_BYTES);
  }
  yield new Uint8Array(2 * BLOCK_BYTES);
};

const encodeHeader = (path: string, entry: { mode: number; type: "0" | "5"; size: number }): Uint8Array => {
  const header = new Uint8Array(BLOCK_BYTES);
  const put = (at: number, text: string): void => header.set(encoder.encode(text), at);
  const octal = (value: number, digits: number): string => `${value.toString(8).padStart(digits, "0")}\0`;
  const { name, prefix } = splitPath(path);
  put(0, name);
  put(100, octal(entry.mode, 7));
  put(108, octal(0, 7));
  put(116, octal(0, 7));
  put(124, octal(entry.size, 11));
  put(136, octal(0, 11));
  put(148, "        ");
  put(156, entry.type);
  put(257, "ustar\u000000");
  put(345, prefix);
  const sum = header.reduce((total, byte) => total + byte, 0);
  put(148, `${sum.toString(8).padStart(6, "0")}\0 `);
  return header;
};

/** Names have 100 bytes, with a prefix 155 more before a slash. */
const splitPath = (path: string): { name: string; prefix: string } => {
  const bytes = encoder.encode(path).length;
  if (bytes !== path.length) throw new KilnError("KERNEL_INVALID", `the path ${path} of a module is not ASCII`, { object: path });
  if (bytes <= 100) return { name: path, prefix: "" };
  const slash = path.indexOf("/", bytes - 101);
  if (slash === -1 || slash > 155 || slash === bytes - 1)
    throw new KilnError("KERNEL_INVALID", `the path ${path} of a module is too long`, { object: path });
  return { name: path.slice(slash + 1), prefix: path.slice(0, slash) };
};
