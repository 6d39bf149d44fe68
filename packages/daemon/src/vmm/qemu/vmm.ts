import type { Duplex } from "node:stream";
import { join } from "node:path";
import { KilnError } from "@kiln/protocol";
import { type Clock, Deferred } from "@kiln/std";
import type { Vmm, VmmEnd, VmmRef } from "../../vms/driver.port.ts";
import { VMM_LIMITS } from "../limits.ts";
import { readConsole } from "./console.ts";
import { ByteTail } from "./byte-tail.ts";
import type { QemuProcess } from "./process.ts";
import type { QmpClient, QmpEvent } from "./qmp.ts";
import { AGENT_SOCKET, connectSocket, removeSockets } from "./sockets.ts";

const PANIC_MARK = "Kernel panic - not syncing";

/** A running QEMU. It is told to stay when its guest ends, so that the console is read before the process goes. */
export class QemuVmm implements Vmm {
  readonly ref: VmmRef;
  readonly ended: Promise<VmmEnd>;
  readonly #process: QemuProcess;
  readonly #qmp: QmpClient;
  readonly #clock: Clock;
  readonly #console = new ByteTail(VMM_LIMITS.consoleBytes);
  readonly #over = new AbortController();
  readonly #ended = new Deferred<VmmEnd>();
  #channel: Duplex | null = null;
  /** Why it is ending, set by the first who ends it. */
  #cause: VmmEnd | null = null;
  #finishing: Promise<void> | null = null;
  #detached = false;

  constructor(parts: { ref: VmmRef; process: QemuProcess; qmp: QmpClient; clock: Clock }) {
    this.ref = parts.ref;
    this.#process = parts.process;
    this.#qmp = parts.qmp;
    this.#clock = parts.clock;
    this.ended = this.#ended.promise;
    void this.#process.gone.then((detail) => this.#settle(detail));
    void this.#qmp.closed.then(() => this.#monitorLost());
  }

  /** What QEMU says of its guest. An event that comes twice changes nothing. */
  takeEvent({ name, data }: QmpEvent): void {
    const reason = data["reason"];
    if (name === "SHUTDOWN" && typeof reason === "string" && reason.startsWith("guest-")) this.guestEnded();
  }

  /** The guest has ended and QEMU waits: reads the console, then ends QEMU. */
  guestEnded(): void {
    this.#finishing ??= this.#finish();
  }

  async openAgentChannel({ signal }: { signal: AbortSignal }): Promise<Duplex> {
    this.#requireAttached();
    await closeChannel(this.#channel);
    const channel = await connectSocket(join(this.ref.directory, AGENT_SOCKET), { clock: this.#clock, signal });
    await closeChannel(this.#channel);
    this.#channel = channel;
    return channel;
  }

  async console({ signal }: { signal: AbortSignal }): Promise<Uint8Array> {
    if (this.#over.signal.aborted) return new Uint8Array();
    this.#console.add(await readConsole(this.#qmp, { signal }));
    return this.#console.bytes;
  }

  async pause(options: { signal: AbortSignal }): Promise<void> {
    this.#requireAttached();
    await this.#qmp.run("stop", {}, options);
  }

  async resume(options: { signal: AbortSignal }): Promise<void> {
    this.#requireAttached();
    await this.#qmp.run("cont", {}, options);
  }

  async kill(): Promise<void> {
    if (this.#detached) return;
    this.#cause ??= { reason: "killed" };
    await this.#process.end();
    await this.ended;
  }

  async detach(): Promise<void> {
    this.#detached = true;
    this.#process.release();
    this.#qmp.close();
    await closeChannel(this.#channel);
    await this.#qmp.closed;
  }

  #requireAttached(): void {
    if (this.#detached || this.#over.signal.aborted) throw new KilnError("VMM_FAILED", `the VMM of ${this.ref.vmId} is not held any more`);
  }

  async #finish(): Promise<void> {
    const signal = AbortSignal.any([this.#over.signal, AbortSignal.timeout(VMM_LIMITS.quitMs)]);
    try {
      const console = new TextDecoder().decode(await this.console({ signal }));
      this.#cause ??= console.includes(PANIC_MARK) ? { reason: "guest-panic", console } : { reason: "guest-shutdown" };
      await this.#qmp.run("quit", {}, { signal });
      await this.#clock.sleep(VMM_LIMITS.quitMs, { signal });
    } catch (error) {
      // The process has ended, or its monitor does not answer: then it is ended the other way.
      this.#cause ??= { reason: "vmm-died", detail: error instanceof Error ? error.message : String(error) };
    }
    await this.#endUnasked();
  }

  /** Nobody waits for this: `ended` settles whenever the host's kernel lets the process go. */
  async #endUnasked(): Promise<void> {
    if (this.#detached) return;
    await this.#process.end().catch((error: unknown) => {
      this.#cause = { reason: "vmm-died", detail: error instanceof Error ? error.message : String(error) };
    });
  }

  /** Without its monitor nobody would see the guest's end: such a QEMU is of no use. */
  async #monitorLost(): Promise<void> {
    if (this.#detached) return;
    const gone = await Promise.race([
      this.#process.gone,
      this.#clock.sleep(VMM_LIMITS.quitMs, { signal: this.#over.signal }).catch(() => "gone"),
    ]);
    if (gone !== undefined || this.#detached) return;
    this.#cause ??= { reason: "vmm-died", detail: "QEMU closed its monitor and ran on" };
    await this.#endUnasked();
  }

  async #settle(detail: string): Promise<void> {
    if (this.#detached) return;
    this.#over.abort(new KilnError("VMM_FAILED", detail));
    await this.#finishing;
    this.#qmp.close();
    await closeChannel(this.#channel);
    const end = this.#cause ?? { reason: "vmm-died" as const, detail };
    await removeSockets(this.ref.directory).then(
      () => this.#ended.resolve(end),
      (error: unknown) => this.#ended.resolve({ reason: "vmm-died", detail: `${detail}; its sockets are still there: ${String(error)}` }),
    );
  }
}

const closeChannel = async (channel: Duplex | null): Promise<void> => {
  if (channel === null || channel.closed) return;
  const closed = new Promise<void>((resolve) => channel.once("close", () => resolve()));
  channel.destroy();
  await closed;
};
