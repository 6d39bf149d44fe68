/** What kiln.db says, read beside a daemon that runs or after one that has ended. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { OperationView } from "@kiln/protocol";
import type { ImageRecord, RootfsRecord } from "../../packages/daemon/src/images/records.port.ts";
import type { KernelRecord } from "../../packages/daemon/src/kernels/records.port.ts";
import type { PrebootRecord } from "../../packages/daemon/src/snapshots/preboot.ts";
import type { VmRecord } from "../../packages/daemon/src/vms/record.ts";

export interface Records {
  readonly vms: readonly VmRecord[];
  readonly images: readonly ImageRecord[];
  readonly rootfs: readonly RootfsRecord[];
  readonly kernels: readonly KernelRecord[];
  readonly preboots: readonly PrebootRecord[];
  /** Those that have not ended. */
  readonly operations: readonly OperationView[];
  readonly sagas: readonly { readonly operation: string; readonly saga: string }[];
}

const NOTHING: Records = { vms: [], images: [], rootfs: [], kernels: [], preboots: [], operations: [], sagas: [] };
const BUSY_MS = 5_000;

export const readRecords = (home: string): Records => {
  const path = join(home, "kiln.db");
  if (!existsSync(path)) return NOTHING;
  const database = new DatabaseSync(path, { readOnly: true, timeout: BUSY_MS });
  try {
    const read = <Kind>(from: string): Kind[] =>
      database
        .prepare(`SELECT record FROM ${from}`)
        .all()
        .map((row) => JSON.parse(String(row["record"])) as Kind);
    return {
      ...{ vms: read("vms"), images: read("images"), rootfs: read("rootfs"), kernels: read("kernels") },
      ...{ preboots: read("preboots"), sagas: read("sagas") },
      operations: read("operations WHERE active = 1"),
    };
  } finally {
    database.close();
  }
};
