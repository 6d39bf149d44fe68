/** Writes tars the way docker does: ustar headers, PAX records where they are needed. */
export interface TarSpec {
  /** Raw bytes as characters; a directory needs no trailing slash. */
  readonly path: string;
  readonly type?: "file" | "directory" | "symlink" | "hardlink" | "character" | "block" | "fifo";
  readonly content?: Uint8Array | string;
  readonly link?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Seconds, or "seconds.nanoseconds". */
  readonly mtime?: string;
  readonly xattrs?: Readonly<Record<string, Uint8Array | string>>;
  readonly device?: readonly [number, number];
  /** More PAX records, as they are. */
  readonly pax?: Readonly<Record<string, string>>;
}

const FLAGS = { file: "0", hardlink: "1", symlink: "2", character: "3", block: "4", directory: "5", fifo: "6" } as const;
const DEFAULT_MODES: Readonly<Record<string, number>> = { directory: 0o755, symlink: 0o777 };

const latin1 = (value: Uint8Array | string): string => (typeof value === "string" ? value : Buffer.from(value).toString("latin1"));

export const paxRecord = (key: string, value: string): string => {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return `${length}${rest}`;
};

const padded = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]);

export interface HeaderFields {
  readonly name: string;
  readonly flag: string;
  readonly size: number;
  readonly link?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly device?: readonly [number, number];
}

const octal = (value: number, length: number): string =>
  `${value
    .toString(8)
    .padStart(length - 1, "0")
    .slice(-(length - 1))}\0`;

/** Recomputes the checksum of a header that a test has changed. */
export const sealHeader = (header: Buffer): Buffer => {
  header.fill(" ", 148, 156);
  let sum = 0;
  for (let at = 0; at < 512; at += 1) sum += header[at] ?? 0;
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return header;
};

export const tarHeader = (fields: HeaderFields): Buffer => {
  const header = Buffer.alloc(512);
  header.write(fields.name.slice(0, 100), 0, "latin1");
  header.write(octal(fields.mode ?? 0o644, 8), 100, "latin1");
  header.write(octal(fields.uid ?? 0, 8), 108, "latin1");
  header.write(octal(fields.gid ?? 0, 8), 116, "latin1");
  header.write(octal(fields.size, 12), 124, "latin1");
  header.write(octal(Math.max(fields.mtime ?? 0, 0), 12), 136, "latin1");
  header.write(fields.flag, 156, "latin1");
  header.write((fields.link ?? "").slice(0, 100), 157, "latin1");
  header.write("ustar\x0000", 257, "latin1");
  const [major, minor] = fields.device ?? [0, 0];
  header.write(octal(major, 8), 329, "latin1");
  header.write(octal(minor, 8), 337, "latin1");
  return sealHeader(header);
};

const MAX_OCTAL_ID = 0o7777777;

const paxOf = (spec: TarSpec): string => {
  const records: string[] = Object.entries(spec.pax ?? {}).map(([key, value]) => paxRecord(key, value));
  const add = (condition: boolean, key: string, value: string): unknown => condition && records.push(paxRecord(key, value));
  add(spec.path.length > 99, "path", spec.path);
  add((spec.link ?? "").length > 99, "linkpath", spec.link ?? "");
  add((spec.uid ?? 0) > MAX_OCTAL_ID, "uid", String(spec.uid));
  add((spec.gid ?? 0) > MAX_OCTAL_ID, "gid", String(spec.gid));
  add(/[.-]/.test(spec.mtime ?? ""), "mtime", spec.mtime ?? "");
  add(Number(spec.mtime ?? 0) >= 8 ** 11, "mtime", spec.mtime ?? "");
  for (const [name, value] of Object.entries(spec.xattrs ?? {})) records.push(paxRecord(`SCHILY.xattr.${name}`, latin1(value)));
  return records.join("");
};

export const tarEntry = (spec: TarSpec): Buffer => {
  const type = spec.type ?? "file";
  const content = Buffer.from(typeof spec.content === "string" ? Buffer.from(spec.content) : (spec.content ?? []));
  const pax = Buffer.from(paxOf(spec), "latin1");
  const header = tarHeader({
    name: spec.path,
    flag: FLAGS[type],
    size: content.length,
    link: spec.link ?? "",
    mode: spec.mode ?? DEFAULT_MODES[type] ?? 0o644,
    uid: spec.uid ?? 0,
    gid: spec.gid ?? 0,
    mtime: Math.floor(Number(spec.mtime ?? 1_700_000_000)),
    device: spec.device ?? [0, 0],
  });
  const extended = pax.length === 0 ? [] : [tarHeader({ name: "PaxHeaders/x", flag: "x", size: pax.length }), padded(pax)];
  return Buffer.concat([...extended, header, padded(content)]);
};

export const buildTar = (specs: readonly TarSpec[]): Buffer => Buffer.concat([...specs.map(tarEntry), Buffer.alloc(1024)]);
