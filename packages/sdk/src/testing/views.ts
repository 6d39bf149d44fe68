import type { ImageView, OperationView, VmView } from "@kiln/protocol";

/** Views as a daemon sends them, for tests of clients. */
export const aVm = (fields: Partial<VmView> = {}): VmView => ({
  id: "0123456789ab",
  name: "web",
  state: "running",
  exitCode: null,
  signal: null,
  error: null,
  image: "deb:busybox-static",
  imageDigest: `sha256:${"1".repeat(64)}`,
  rootfsDigest: `sha256:${"2".repeat(64)}`,
  kernel: "debian",
  command: ["sh"],
  createdAt: "2026-11-21T10:00:00.000Z",
  startedAt: "2026-11-21T10:00:01.000Z",
  finishedAt: null,
  cpus: 1,
  memoryBytes: 512 * 2 ** 20,
  diskBytes: 8 * 2 ** 30,
  tty: false,
  stdin: false,
  driver: "fake",
  accel: null,
  pid: 42,
  epoch: 1,
  bootId: "b",
  startPath: "cold",
  startReason: null,
  timings: {},
  network: { mode: "none", mac: null, address: null, ports: [] },
  health: null,
  labels: {},
  ...fields,
});

export const anOperation = (fields: Partial<OperationView> = {}): OperationView => ({
  id: "op_0123456789abcdef",
  kind: "vm.create",
  key: "k",
  subject: "web",
  state: "succeeded",
  phase: null,
  position: null,
  progress: null,
  parts: [],
  output: null,
  waiters: 1,
  joined: null,
  parent: null,
  waits: [],
  startedAt: "2026-11-21T10:00:00.000Z",
  finishedAt: fields.state === "running" || fields.state === "queued" ? null : "2026-11-21T10:00:01.000Z",
  phases: [],
  error: null,
  result: null,
  report: null,
  ...fields,
});

export const anImage = (fields: Partial<ImageView> = {}): ImageView => ({
  reference: "deb:busybox-static",
  digest: `sha256:${"1".repeat(64)}`,
  platform: "linux/amd64",
  layers: 1,
  sizeBytes: 1024,
  rootfsDigest: null,
  rootfsBytes: null,
  createdAt: "2026-11-21T10:00:00.000Z",
  inUse: false,
  ...fields,
});

/** All that an iteration gives. */
export const listOf = async <Item>(items: AsyncIterable<Item>): Promise<Item[]> => {
  const all: Item[] = [];
  for await (const item of items) all.push(item);
  return all;
};
