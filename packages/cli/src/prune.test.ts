import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { DfReport, PruneReport } from "@kiln/protocol";
import { StubDaemon } from "@kiln/sdk/testing";
import { digestOf } from "./testing/image-files.ts";
import { kiln } from "./testing/kiln-process.ts";
import { hasScript, onTerminal } from "./testing/terminal.ts";

const bodyOf = (stub: StubDaemon, path: string): Record<string, unknown> =>
  JSON.parse(stub.calls("POST", path).at(-1)?.body.toString() ?? "null") as Record<string, unknown>;

const plan = (changes: Partial<PruneReport> = {}): PruneReport => ({
  removed: [
    { kind: "vm", id: "0123456789ab", diskBytes: 4096 },
    { kind: "image", id: "docker.io/library/alpine:3", diskBytes: 0 },
    { kind: "blob", id: digestOf("a"), diskBytes: 8192 },
    { kind: "blob", id: digestOf("b"), diskBytes: 8192 },
  ],
  failures: [],
  diskBytes: 20_480,
  dryRun: true,
  ...changes,
});

const LISTED = "VMs:\n  0123456789ab\nImages:\n  alpine:3\n2 blobs (16 KiB)\n";

describe("prune", () => {
  const withGarbage = async (): Promise<StubDaemon> => {
    const stub = await StubDaemon.listen();
    stub.on("POST", "/v1/prune", ({ body }) => ({ json: plan({ dryRun: (JSON.parse(body.toString()) as { dryRun: boolean }).dryRun }) }));
    return stub;
  };
  test("with -f does it and says what went; without a terminal it needs that", async () => {
    await using stub = await withGarbage();
    const { home } = stub;
    assert.equal((await kiln(["prune"], { home })).exitCode, 2);
    assert.equal((await kiln(["prune", "--json"], { home })).exitCode, 2);
    assert.equal(stub.requests.length, 0);
    assert.equal((await kiln(["prune", "-f"], { home })).stdout, `${LISTED}Total reclaimed space: 20 KiB\n`);
    assert.deepEqual(bodyOf(stub, "/v1/prune"), { vms: true, kernels: true, images: false, dryRun: false });
    await kiln(["prune", "-af"], { home });
    assert.equal(bodyOf(stub, "/v1/prune")["images"], true);
    await kiln(["image", "prune", "-f"], { home });
    assert.deepEqual(bodyOf(stub, "/v1/prune"), { vms: false, kernels: false, images: false, dryRun: false });
    assert.equal((await kiln(["prune", "--dry-run"], { home })).stdout, `${LISTED}Total reclaimable space: 20 KiB\n`);
    assert.equal(bodyOf(stub, "/v1/prune")["dryRun"], true);
    assert.deepEqual(JSON.parse((await kiln(["prune", "-f", "--json"], { home })).stdout), plan({ dryRun: false }));
  });
  test("says what could not go, and exits with 1", async () => {
    await using stub = await withGarbage();
    const failures = [{ kind: "vm", id: "web", error: { code: "VM_RUNNING", detail: "it runs\u001b" } }];
    stub.on("POST", "/v1/prune", () => ({ json: plan({ failures }) }));
    const { exitCode, stderr } = await kiln(["prune", "-f"], { home: stub.home });
    assert.deepEqual([exitCode, stderr], [1, "kiln: vm web stays: it runs\\x1b\n"]);
  });
  describe("asks on a terminal", { skip: !hasScript }, () => {
    for (const [keys, removed] of [
      ["y\n", true],
      ["YES\n", true],
      ["n\n", false],
      ["\n", false],
      ["\u0004", false],
    ] as const) {
      test(JSON.stringify(keys), async () => {
        await using stub = await withGarbage();
        const { exitCode, screen } = await onTerminal(["prune"], { home: stub.home, prompt: "[y/N]", keys });
        assert.match(screen, /This removes:[\s\S]*alpine:3[\s\S]*Remove 20 KiB\?/);
        assert.deepEqual(
          [exitCode, stub.requests.length, screen.includes("Total reclaimed")],
          removed ? [0, 2, true] : [1, 1, false],
          screen,
        );
      });
    }
    test("and ctrl-c ends it", async () => {
      await using stub = await withGarbage();
      const { exitCode } = await onTerminal(["prune"], { home: stub.home, prompt: "[y/N]", keys: "\u0003" });
      assert.deepEqual([exitCode, stub.requests.length], [130, 1]);
    });
  });
});

test("df is docker's table: what is there, what is used, and what a prune of it gives back", async () => {
  await using stub = await StubDaemon.listen();
  const item = (kind: string, id: string, more: Partial<DfReport["items"][number]> = {}): DfReport["items"][number] => ({
    ...{ kind, id, bytes: 1000, diskBytes: 4096, uniqueBytes: 4096, inUse: true },
    ...more,
  });
  const report: DfReport = {
    items: [
      item("blob", digestOf("a")),
      item("rootfs", "key", { diskBytes: 12_288 }),
      item("vm", "0123456789ab", { inUse: false }),
      item("vm", "ffffffffffff"),
      item("kernel", "k"),
      item("preboot", "p"),
      item("other", "kiln.db"),
    ],
    images: [
      { reference: "docker.io/library/alpine:3", digest: digestOf("m"), diskBytes: 16_384, uniqueBytes: 4096, sharedBytes: 12_288, vms: 1 },
    ],
    total: { bytes: 6000, diskBytes: 32_768 },
    freeBytes: 2 ** 30,
    reclaimable: { diskBytes: 4096, allDiskBytes: 8192 },
    orphans: ["staging/x\u001b"],
  };
  stub.on("GET", "/v1/df", () => ({ json: report }));
  stub.on("POST", "/v1/prune", () => ({ json: plan({ removed: [{ kind: "blob", id: digestOf("a"), diskBytes: 4096 }] }) }));
  const summary = [
    "TYPE        TOTAL   ACTIVE   SIZE     RECLAIMABLE",
    "Images      1       1        16 KiB   4 KiB (25%)",
    "VMs         2       1        8 KiB    4 KiB (50%)",
    "Kernels     1       1        4 KiB    0 B (0%)",
    "Snapshots   1       1        4 KiB    0 B",
    "Other       1                4 KiB    0 B",
    "",
  ].join("\n");
  const footer = "\n32 KiB on the disk, 1 GiB free\nkiln prune would free 4 KiB, kiln prune --all 8 KiB\n\nNOBODY OWNS\nstaging/x\\x1b\n";
  const { stdout } = await kiln(["df"], { home: stub.home });
  assert.equal(stdout, `${summary}${footer}`);
  const verbose = (await kiln(["df", "-v"], { home: stub.home })).stdout;
  assert.match(verbose, /\nalpine:3 +[0-9a-f]{12} +16 KiB +12 KiB +4 KiB +1\n/);
  assert.match(verbose, /\nvm +0123456789ab +1000 B +4 KiB +4 KiB +no\n/);
  assert.deepEqual(JSON.parse((await kiln(["df", "--json"], { home: stub.home })).stdout), report);
});
