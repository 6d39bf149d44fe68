import { spawn } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { KilnError } from "@kiln/protocol";
import { DISK_SLOTS, type DiskSpec } from "../../vms/driver.port.ts";
import type { QmpClient } from "./qmp.ts";
import { HAND_SOCKET } from "./sockets.ts";

/** Sets of descriptors that came with the command line have lower numbers. */
const FIRST_SET = 100;
const DIRECTORY_FD = 3;
const FIRST_FILE_FD = 4;

/**
 * Puts disks in the place of empty ones while the guest is paused: QEMU gets them as open descriptors, since it may open no
 * file of the home by itself, and each slot's raw node is reopened onto its file. The device stays, and the guest, which has
 * not looked at it, meets it at its real size.
 */
export const attachDisks = async (
  qmp: QmpClient,
  disks: readonly DiskSpec[],
  to: { directory: string; helper: string; id: string; signal: AbortSignal },
): Promise<void> => {
  await handOver(disks, to);
  const { signal } = to;
  await Promise.all(
    disks.map(async ({ slot, readOnly }) => {
      const access = { "read-only": readOnly, ...(readOnly ? {} : { discard: "unmap" }) };
      const [file, filename] = [`${slot}-disk`, `/dev/fdset/${setOf(slot)}`];
      const added = qmp.run("blockdev-add", { driver: "file", "node-name": file, filename, ...access }, { signal });
      // QEMU takes commands in their order: the second need not wait for the answer to the first
      const reopened = qmp.run("blockdev-reopen", { options: [{ driver: "raw", "node-name": slot, file, ...access }] }, { signal });
      await Promise.all([added, reopened]);
    }),
  );
};

const setOf = (slot: DiskSpec["slot"]): number => FIRST_SET + DISK_SLOTS.indexOf(slot);

/** Node cannot send descriptors; its helper does. */
const handOver = async (
  disks: readonly DiskSpec[],
  { directory, helper, id, signal }: { directory: string; helper: string; id: string; signal: AbortSignal },
): Promise<void> => {
  await using opened = new AsyncDisposableStack();
  const inherit = async (path: string, flags: number): Promise<number> => opened.use(await open(path, flags)).fd;
  const own = await inherit(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  const files = [];
  for (const { path, readOnly } of disks) files.push(await inherit(path, readOnly ? constants.O_RDONLY : constants.O_RDWR));
  const sets = disks.map(({ slot }, index) => `${setOf(slot)}:${FIRST_FILE_FD + index}`);
  const child = spawn(helper, ["add-fd", `/proc/self/fd/${DIRECTORY_FD}/${HAND_SOCKET}`, ...sets], {
    ...{ stdio: ["ignore", "ignore", "pipe", own, ...files], env: {}, cwd: "/", signal, killSignal: "SIGKILL" },
  });
  const said: Uint8Array[] = [];
  child.stderr?.on("data", (chunk: Uint8Array) => said.push(chunk));
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) {
    const words = Buffer.concat(said).toString("utf8").trim().slice(0, 1024);
    throw new KilnError("VMM_FAILED", `the VMM of ${id} did not take its disks: ${words}`, { object: id });
  }
};
