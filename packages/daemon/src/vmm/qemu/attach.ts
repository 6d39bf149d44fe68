import { spawn } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { KilnError } from "@kiln/protocol";
import { DISK_SLOTS, type DiskSlot, type DiskSpec } from "../../vms/driver.port.ts";
import { inheritedSet, READ_ONLY_SLOTS } from "./args.ts";
import type { QmpClient } from "./qmp.ts";
import { HAND_SOCKET } from "./sockets.ts";

/** Sets of descriptors that came with the command line have lower numbers. */
const FIRST_SET = 100;
const DIRECTORY_FD = 3;
const FIRST_FILE_FD = 4;

/**
 * Lets the devices of slots that have no disk yet tell the guest, which is paused, that their size is another: as soon as it runs it
 * asks for it, and is told what they have then. The interrupt is a part of the guest's state like any other. (QEMU raises it for
 * a resize, also to the size that there was.)
 */
export const announceDisks = async (qmp: QmpClient, slots: readonly DiskSlot[], options: { signal: AbortSignal }): Promise<void> => {
  await Promise.all(
    slots.flatMap((slot) => {
      const writable = { driver: "raw", "node-name": slot, file: `${slot}-file`, "read-only": false };
      return [
        ...(READ_ONLY_SLOTS.has(slot) ? [qmp.run("blockdev-reopen", { options: [writable] }, options)] : []),
        qmp.run("block_resize", { "node-name": slot, size: 0 }, options),
      ];
    }),
  );
};

interface SlotsOf {
  readonly directory: string;
  /** The daemon's helper for descriptors. */
  readonly helper: string;
  readonly id: string;
  /** That the guest may have met. */
  readonly empty: readonly DiskSlot[];
}

/** The slots of a QEMU that gets its disks after it has started. */
export class OpenSlots {
  readonly #qmp: QmpClient;
  readonly #of: SlotsOf;
  #empty: readonly DiskSlot[];
  #replaced: readonly DiskSlot[] = [];

  constructor(qmp: QmpClient, of: SlotsOf) {
    this.#qmp = qmp;
    this.#of = of;
    this.#empty = of.empty;
  }

  /**
   * Puts disks in the place of empty ones while the guest is paused: QEMU gets them as open descriptors, since it may open no
   * file of the home by itself, and each slot's raw node is reopened onto its file. The device stays; the guest meets it at its
   * real size, or is told of it where it has met it before.
   */
  async attach(disks: readonly DiskSpec[], { signal }: { signal: AbortSignal }): Promise<void> {
    const qmp = this.#qmp;
    // never one that has a disk, whose size is its own
    const met = this.#empty.filter((slot) => disks.some((disk) => disk.slot === slot));
    this.#empty = this.#empty.filter((slot) => !met.includes(slot));
    await Promise.all([handOver(disks, { ...this.#of, signal }), announceDisks(qmp, met, { signal })]);
    await Promise.all(
      disks.map(async ({ slot, readOnly }) => {
        const access = { "read-only": readOnly, ...(readOnly ? {} : { discard: "unmap" }) };
        const [file, filename] = [`${slot}-disk`, `/dev/fdset/${setOf(slot)}`];
        const added = qmp.run("blockdev-add", { driver: "file", "node-name": file, filename, ...access }, { signal });
        // QEMU takes commands in their order: the second need not wait for the answer to the first
        const reopened = qmp.run("blockdev-reopen", { options: [{ driver: "raw", "node-name": slot, file, ...access }] }, { signal });
        const dropped = met.includes(slot) ? qmp.run("blockdev-del", { "node-name": `${slot}-file` }, { signal }) : null;
        await Promise.all([added, reopened, dropped]);
      }),
    );
    this.#replaced = met;
  }

  /** QEMU keeps no file that it could fill and nobody can see. It closes the descriptors of a set only while its guest runs. */
  async closeReplaced(options: { signal: AbortSignal }): Promise<void> {
    const replaced = this.#replaced;
    this.#replaced = [];
    await Promise.all(replaced.map((slot) => this.#qmp.run("remove-fd", { "fdset-id": inheritedSet(slot) }, options)));
  }
}

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
