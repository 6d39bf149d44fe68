import type { Duplex } from "node:stream";
import type { ExecRequest, NetworkSetup, SetupRequest } from "@kiln/protocol/wire";

/** The port to the program in the guest. Everything that comes from it is a claim. */

export type GuestSetup = SetupRequest;
export type GuestExec = ExecRequest;
export interface GuestPreparation {
  /** To load from the initramfs, in order. */
  readonly modules: readonly string[];
  /** The serial of the disk with the image's view of the modules, which is the same for all. */
  readonly modulesDisk: string | null;
  /** Serials of disks that get their driver before the guest is saved, and their size only in those that start from it. */
  readonly metDisks: { readonly root: string; readonly writable: string };
  /** What the NIC is given before the guest is saved, but for its own MAC; null: no NIC. */
  readonly network: NetworkSetup | null;
}
export type OutputStream = "stdout" | "stderr";

export interface ExecStatus {
  readonly id: string;
  readonly running: boolean;
  readonly exitCode: number | null;
  /** For example "SIGKILL". */
  readonly signal: string | null;
  readonly oomKilled: boolean;
}

export type ExecEvent =
  /** `offset` counts bytes of this stream from the command's start; a jump says how much was dropped. */
  | { readonly type: "output"; readonly stream: OutputStream; readonly offset: number; readonly bytes: Uint8Array }
  /** All output was delivered before it. */
  | { readonly type: "exit"; readonly status: ExecStatus };

export interface AgentHello {
  readonly version: number;
  readonly epoch: number;
  /** Sessions that the agent has counted in this epoch, this one included. */
  readonly sessions: number;
  /** Whether setup was done in this epoch. */
  readonly ready: boolean;
}

export interface ExecAttachment extends AsyncDisposable {
  /** Bytes of stdin that the guest has received so far. */
  readonly stdinOffset: number;
  /** Events in order; a second iteration is an error. Output is kept in the guest until `acknowledge`d. Ends after exit; throws when the session ends before. */
  readonly events: AsyncIterable<ExecEvent>;
  /** Output of `stream` before `offset` is safe with the reader: the guest may forget it. */
  acknowledge(stream: OutputStream, offset: number): void;
  /** Resolves when the guest has taken the bytes into its window (back-pressure of this stream only). */
  writeStdin(bytes: Uint8Array, options: { signal: AbortSignal }): Promise<void>;
  closeStdin(): Promise<void>;
  resize(size: { readonly rows: number; readonly cols: number }): Promise<void>;
  sendSignal(name: string): Promise<void>;
}

export type GuestPort = { readonly protocol: "tcp" | "udp"; readonly port: number };

/** A connection to a port inside the guest: a stream of bytes, or the datagrams of one peer. Disposal breaks off what has not ended. */
export interface GuestConnection extends Disposable {
  /** Settles when the guest's port has taken it (udp: when it may); rejects with the reason where none does. Nobody has to await it. */
  readonly opened: Promise<void>;
  /** The next bytes, or one datagram; null after the guest's end. One call at a time. Throws when the connection is broken off or its session ends. */
  read(): Promise<Uint8Array | null>;
  /** Resolves when the bytes are on their way within the guest's window; one call at a time. A datagram without room is dropped. */
  write(bytes: Uint8Array): Promise<void>;
  /** tcp: nothing more is written, which the guest sees after all that was. */
  end(): void;
}

/** One connection to the agent. Requests reject with GUEST_AGENT_TIMEOUT, GUEST_AGENT_PROTOCOL or the guest's own typed refusal. */
export interface AgentSession extends AsyncDisposable {
  readonly hello: AgentHello;
  /** Settles when the channel is gone; never rejects. */
  readonly closed: Promise<void>;
  /** Milliseconds by step. Throws GUEST_SETUP_FAILED with the step's name and errno. */
  setup(config: GuestSetup, options: { signal: AbortSignal }): Promise<Readonly<Record<string, number>>>;
  /** Starts it, or finds it started. Throws COMMAND_NOT_FOUND, COMMAND_NOT_EXECUTABLE, GUEST_USER_UNKNOWN. */
  exec(spec: GuestExec, options: { signal: AbortSignal }): Promise<void>;
  /** Follows the output of one exec from `offsets` (default: what is still unacknowledged). One attachment per exec at a time: a new one ends the old. Throws EXEC_NOT_FOUND. */
  attach(execId: string, options: { signal: AbortSignal }): Promise<ExecAttachment>;
  list(options: { signal: AbortSignal }): Promise<readonly ExecStatus[]>;
  /** Forgets an ended exec: its id may then run again. Idempotent. */
  forget(execId: string, options: { signal: AbortSignal }): Promise<void>;
  sendSignal(execId: string, name: string, options: { signal: AbortSignal }): Promise<void>;
  /**
   * Begins a connection; what is written goes along with it. It waits for as long as the guest does: a paused one answers when it goes on.
   * Throws QUEUE_FULL past the connections of one VM.
   */
  dial(to: GuestPort): GuestConnection;
  ping(options: { signal: AbortSignal }): Promise<void>;
  /** Does what no VM of this kernel differs in, before the guest is saved; `setup` leaves it out then. Throws as `setup`. */
  prepare(common: GuestPreparation, options: { signal: AbortSignal }): Promise<void>;
  /**
   * A setup for nothing, on two other disks that are named by their place on the bus, so that the real one and the first
   * command find all of it known. A command may run then, until the next epoch. Throws as `setup`.
   */
  rehearse(
    config: GuestSetup,
    slots: { readonly root: number; readonly writable: number },
    options: { signal: AbortSignal },
  ): Promise<void>;
  /** Flushes the guest's file systems. */
  sync(options: { signal: AbortSignal }): Promise<void>;
  /** Ends all processes (TERM, then KILL after graceMs), unmounts, syncs and powers off. Resolves when the guest has acknowledged it. */
  powerOff(graceMs: number, options: { signal: AbortSignal }): Promise<void>;
}

export interface AgentConnector {
  /** Speaks HELLO over `channel`; discards what came before it. Owns the channel from then on. */
  connect(channel: Duplex, options: { epoch: number; signal: AbortSignal }): Promise<AgentSession>;
}
