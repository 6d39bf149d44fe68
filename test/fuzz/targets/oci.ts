import { parseImageConfig } from "../../../packages/formats/src/oci/config.ts";
import {
  layerEncoding,
  OciError,
  parseImageDocument,
  parseLayoutMarker,
  selectManifest,
  type Descriptor,
} from "../../../packages/formats/src/oci/index.ts";
import { mutateBytes } from "../engine/bytes.ts";
import type { Dice } from "../engine/dice.ts";
import { mustHold, type FuzzTarget, type Others, type Outcome } from "../engine/target.ts";

const PLATFORM = { os: "linux", architecture: "amd64", variant: "" };

const checkDescriptor = ({ digest, size }: Descriptor): void => {
  mustHold(/^sha256:[0-9a-f]{64}$/.test(digest), () => `a digest is ${digest}`);
  mustHold(Number.isSafeInteger(size) && size >= 0, () => `a size is ${size}`);
};

/** True if it ends with a value, false if with the error that it may throw. */
const ends = (use: () => void): boolean => {
  try {
    use();
  } catch (error) {
    if (!(error instanceof OciError)) throw error;
    return false;
  }
  return true;
};

const useDocument = (bytes: Buffer, mediaType: string | null): void => {
  const document = parseImageDocument(bytes, mediaType, "it");
  if (document.kind === "manifest") {
    for (const one of [document.config, ...document.layers]) checkDescriptor(one);
    for (const { mediaType } of document.layers) ends(() => layerEncoding(mediaType));
    return;
  }
  document.manifests.forEach(checkDescriptor);
  for (const tag of [null, "v1"]) ends(() => checkDescriptor(selectManifest(document, { tag, platform: PLATFORM })));
};

const useConfig = (bytes: Buffer): void => {
  const config = parseImageConfig(bytes);
  for (const digest of config.diffIds) mustHold(/^sha256:[0-9a-f]{64}$/.test(digest), () => `a diff id is ${digest}`);
  const texts = [config.entrypoint, config.cmd, config.env, config.exposedPorts, config.volumes, Object.values(config.labels)].flat();
  mustHold(
    texts.every((text) => typeof text === "string"),
    () => "something is no text",
  );
  mustHold(Object.getPrototypeOf(config.labels) === Object.prototype, () => "labels have another prototype");
};

const run = (bytes: Buffer): Outcome => {
  const accepted = [
    ends(() => useDocument(bytes, null)),
    ends(() => useDocument(bytes, "application/vnd.oci.image.manifest.v1+json")),
    ends(() => useConfig(bytes)),
    ends(() => parseLayoutMarker(bytes)),
  ];
  mustHold(({} as Record<string, unknown>)["polluted"] === undefined, () => "the prototype of all objects has changed");
  return accepted.includes(true) ? "accepted" : "refused";
};

const DIGEST = `sha256:${"a".repeat(64)}`;
const KEYS = [
  ...([
    "schemaVersion",
    "mediaType",
    "config",
    "layers",
    "manifests",
    "digest",
    "size",
    "annotations",
    "platform",
    "urls",
    "data",
  ] as const),
  ...(["os", "architecture", "variant", "rootfs", "diff_ids", "type", "Env", "Cmd", "Entrypoint", "User", "WorkingDir", "Labels"] as const),
  ...(["ExposedPorts", "Volumes", "StopSignal", "imageLayoutVersion", "org.opencontainers.image.ref.name", "fsLayers", "history"] as const),
  ...(["__proto__", "constructor", "toString", "polluted", ""] as const),
] as const;
const VALUES: readonly [unknown, ...unknown[]] = [
  null,
  ...[true, 0, 1, 2, -1, 1.5, 1e300, 2 ** 53, "", "linux", "amd64", "arm64", "v8", "unknown", "v1", DIGEST, "1.0.0"],
  ...["sha256:", `sha512:${"a".repeat(128)}`, `md5:${"a".repeat(32)}`, `sha256:${"A".repeat(64)}`, "sha256:../../x", "x".repeat(2000)],
  ...["application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json"],
  ...["application/vnd.docker.distribution.manifest.v2+json", "application/vnd.oci.image.layer.v1.tar+gzip", "\ud800", "\0"],
  ...[[], {}, [[]], [{}], { polluted: "x" }],
];

interface Slot {
  readonly holder: Record<string, unknown> | unknown[];
  readonly key: string | number;
}

const slotsOf = (value: unknown, into: Slot[]): Slot[] => {
  if (typeof value !== "object" || value === null || into.length > 300) return into;
  const holder = value as Slot["holder"];
  for (const [key, one] of Object.entries(holder)) {
    into.push({ holder, key: Array.isArray(holder) ? Number(key) : key });
    slotsOf(one, into);
  }
  return into;
};

const set = ({ holder, key }: Slot, value: unknown): void => {
  Object.defineProperty(holder, key, { value, enumerable: true, configurable: true, writable: true });
};

const get = ({ holder, key }: Slot): unknown => (holder as Record<string | number, unknown>)[key];

const changeValue = (root: unknown, dice: Dice, others: readonly Slot[]): void => {
  const slots = slotsOf(root, []);
  const slot = slots[dice.below(slots.length)];
  if (slot === undefined) return;
  const other = others[dice.below(others.length)];
  const kind = dice.below(5);
  if (kind === 0) delete (slot.holder as Record<string | number, unknown>)[slot.key];
  else if (kind === 1 && Array.isArray(slot.holder)) slot.holder.push(get(slot));
  else if (kind === 2)
    set({ holder: slot.holder, key: Array.isArray(slot.holder) ? slot.holder.length : dice.pick(KEYS) }, dice.pick(VALUES));
  else if (kind === 3 && other !== undefined) set(slot, structuredClone(get(other)));
  else set(slot, dice.pick(VALUES));
};

const parseJson = (bytes: Buffer): unknown => {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
};

const mutate = (input: Buffer, dice: Dice, others: Others): Buffer => {
  const root = dice.once(5) ? undefined : parseJson(input);
  if (root === undefined) return mutateBytes(input, dice, others);
  changeValue(root, dice, slotsOf(parseJson(others()), []));
  return Buffer.from(JSON.stringify(root));
};

export const OCI: FuzzTarget = {
  about: "OCI and docker documents: index, manifest, config, layout marker; choosing from an index",
  holds: "digests are sha256 in its one form, sizes are whole, texts are texts, no prototype changes",
  maxBytes: 16 << 10,
  run,
  mutate,
};
