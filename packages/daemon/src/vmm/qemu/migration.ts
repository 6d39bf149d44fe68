import { createWriteStream } from "node:fs";
import { chown, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { KilnError } from "@kiln/protocol";
import { abortable, Deferred } from "@kiln/std";
import { longSocketPath } from "@kiln/std/node";
import type { QmpClient, QmpEvent } from "./qmp.ts";

/** QEMU tells how a migration goes; memory that a file holds is not in its stream (docs/devel/migration.rst). */
const CAPABILITIES = [
  { capability: "events", state: true },
  { capability: "x-ignore-shared", state: true },
];

const STATE_SOCKET = "state.sock";

/** Follows one migration by QEMU's events. */
export class Migration {
  readonly #done = new Deferred<void>();

  constructor() {
    this.#done.promise.catch(() => undefined);
  }

  takeEvent({ name, data }: QmpEvent): void {
    if (name !== "MIGRATION") return;
    if (data["status"] === "completed") this.#done.resolve();
    if (data["status"] === "failed") this.#done.reject(new KilnError("VMM_FAILED", "QEMU's migration failed"));
  }

  /** Loads the state of the inherited descriptor `state` into a QEMU that waits for it, and lets the guest run. */
  async receive(qmp: QmpClient, state: number, options: { signal: AbortSignal }): Promise<void> {
    const asked = [
      qmp.run("migrate-set-capabilities", { capabilities: CAPABILITIES }, options),
      qmp.run("migrate-incoming", { uri: `fd:${state}` }, options),
    ];
    const end = this.#end(qmp, "took up a snapshot");
    await Promise.all(asked);
    await abortable(end, options.signal);
    await qmp.run("cont", {}, options);
  }

  /**
   * Writes the state of the devices of a guest that is paused to the file `target`, through a socket in the VM's own directory,
   * which QEMU reaches by an inherited descriptor: its sandbox opens neither files nor programs.
   */
  async send(
    qmp: QmpClient,
    to: { directory: string; descriptor: number; uid: number | null; target: string },
    { signal }: { signal: AbortSignal },
  ): Promise<void> {
    await using undo = new AsyncDisposableStack();
    const path = join(to.directory, STATE_SOCKET);
    const reach = undo.use(longSocketPath(path));
    const accepted = new Deferred<Socket>();
    const server = createServer((socket) => accepted.resolve(socket));
    undo.defer(() => rm(path, { force: true }));
    undo.defer(() => closeServer(server));
    // one that nobody came to read keeps the server open
    undo.defer(async () => void accepted.promise.then((socket) => socket.destroy()));
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(reach.path, resolve);
    });
    if (to.uid !== null) await chown(path, to.uid, to.uid);
    await qmp.run("migrate-set-capabilities", { capabilities: CAPABILITIES }, { signal });
    const end = this.#end(qmp, "saved its guest");
    await qmp.run("migrate", { uri: `unix:/proc/self/fd/${to.descriptor}/${STATE_SOCKET}` }, { signal });
    const socket = await abortable(Promise.race([accepted.promise, end.then(() => accepted.promise)]), signal);
    await pipeline(socket, createWriteStream(to.target, { flags: "w", mode: 0o600 }), { signal });
    await abortable(end, signal);
  }

  /** The migration's end; a QEMU that ends before that has failed. */
  #end(qmp: QmpClient, action: string): Promise<void> {
    const gone = qmp.closed.then(() => {
      throw new KilnError("VMM_FAILED", `QEMU closed its monitor while it ${action}`);
    });
    const end = Promise.race([this.#done.promise, gone]);
    end.catch(() => undefined);
    return end;
  }
}

const closeServer = (server: Server): Promise<void> => new Promise((resolve) => server.close(() => resolve()));
