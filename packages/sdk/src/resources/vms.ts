import { type KilnError, parseProblem } from "@kiln/protocol/errors";
import type { CreateVmRequest, ExecRequest, OperationView, PortView, PublishPort, RegistryCredentials, VmView } from "@kiln/protocol";
import type { ApiClient, CallOptions } from "../api-client.ts";
import { CommandSession, type CommandExit } from "../command-session.ts";
import { readLog, type LogOptions } from "../log-stream.ts";
import type { OutputBuffer, OutputChunk } from "../output-buffer.ts";
import { registryAuthHeaders } from "../registry-auth.ts";

/** What an exec runs; the rest takes the schema's defaults. */
export type ExecOptions = Omit<ExecRequest, "id"> & { readonly id?: string };

const pathOf = (ref: string): string => `/v1/vms/${encodeURIComponent(ref)}`;

/** MicroVMs. A `ref` is an id, a unique prefix of one, or a name. */
export class Vms {
  readonly #api: ApiClient;

  constructor(api: ApiClient) {
    this.#api = api;
  }

  /**
   * The operation's `result` is the VM's id. With `start: true` it includes the start. `credentials` are for the pull
   * of an image that is not there.
   */
  create(
    request: CreateVmRequest,
    options: CallOptions & { readonly credentials?: RegistryCredentials | undefined } = {},
  ): Promise<OperationView> {
    const { signal, credentials } = options;
    return this.#api.json("POST", "/v1/vms", { json: request, signal, headers: registryAuthHeaders(credentials) });
  }

  list(options: CallOptions = {}): Promise<VmView[]> {
    return this.#api.json("GET", "/v1/vms", options);
  }

  get(ref: string, options: CallOptions = {}): Promise<VmView> {
    return this.#api.json("GET", pathOf(ref), options);
  }

  start(ref: string, options: CallOptions = {}): Promise<OperationView> {
    return this.#api.json("POST", `${pathOf(ref)}/start`, { json: {}, signal: options.signal });
  }

  /** `timeoutMs`: how long the command has after its stop signal. */
  stop(ref: string, options: CallOptions & { readonly timeoutMs?: number | undefined } = {}): Promise<OperationView> {
    const json = options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs };
    return this.#api.json("POST", `${pathOf(ref)}/stop`, { json, signal: options.signal });
  }

  /** Sends a signal to the VM's command, SIGKILL unless told. */
  async kill(ref: string, options: CallOptions & { readonly signalName?: string } = {}): Promise<void> {
    await this.#api.json("POST", `${pathOf(ref)}/kill`, { json: { signal: options.signalName ?? "SIGKILL" }, signal: options.signal });
  }

  /** `force` ends a VM that runs. */
  remove(ref: string, options: CallOptions & { readonly force?: boolean } = {}): Promise<OperationView> {
    return this.#api.json("DELETE", pathOf(ref), { query: { force: options.force ?? false }, signal: options.signal });
  }

  /** Resolves when the VM is exited or failed. */
  async wait(ref: string, options: CallOptions = {}): Promise<VmView> {
    for (;;) {
      const vm = await this.#api.json<VmView>("GET", `${pathOf(ref)}/wait`, options);
      if (vm.state === "exited" || vm.state === "failed") return vm;
    }
  }

  /** What it has published. */
  ports(ref: string, options: CallOptions = {}): Promise<PortView[]> {
    return this.#api.json("GET", `${pathOf(ref)}/ports`, options);
  }

  /** Publishes a port: at once where the VM runs, else from its next start on. Resolves with its address on the host. */
  addPort(ref: string, port: PublishPort, options: CallOptions = {}): Promise<PortView> {
    return this.#api.json("POST", `${pathOf(ref)}/ports`, { json: port, signal: options.signal });
  }

  /** Takes back every published port that fits, and breaks off its connections. */
  async removePort(ref: string, port: Pick<PublishPort, "guestPort"> & Partial<PublishPort>, options: CallOptions = {}): Promise<void> {
    await this.#api.json("DELETE", `${pathOf(ref)}/ports`, { query: { ...port }, signal: options.signal });
  }

  /** What the VM's command wrote, from its beginning or its last lines. */
  logs(ref: string, options: LogOptions = {}): AsyncGenerator<OutputChunk> {
    return readLog(this.#api, `${pathOf(ref)}/logs`, options);
  }

  /** The guest kernel's console, as bytes. */
  console(ref: string, options: CallOptions = {}): Promise<AsyncIterable<Uint8Array>> {
    return this.#api.stream(`${pathOf(ref)}/console`, options);
  }

  /** Runs a command in a running VM, once per `id`, however often the connection breaks; EXEC_NOT_FOUND where the VM was started again meanwhile. */
  exec(ref: string, request: ExecOptions, options: CallOptions = {}): CommandSession {
    const id = request.id ?? this.#api.newId();
    return new CommandSession({
      open: ({ guest, signal }) => this.#api.openSocket(`${pathOf(guest?.vm ?? ref)}/exec`, { signal }),
      hello: (guest) => JSON.stringify({ ...request, id, ...(guest === null ? {} : { epoch: guest.epoch }) }),
      clock: this.#api.clock,
      signal: options.signal,
    });
  }

  /**
   * The VM's own command. On a VM that was never started it waits for the start and misses nothing; with the `epoch` of
   * the boot to come, on one that has ended too. If the VM ends while the connection is broken, the rest comes from its
   * log and its record.
   */
  attach(ref: string, options: CallOptions & { readonly stdin?: boolean; readonly epoch?: number } = {}): CommandSession {
    const query = { stdin: options.stdin ?? false, epoch: options.epoch };
    return new CommandSession({
      open: ({ signal }) => this.#api.openSocket(`${pathOf(ref)}/attach`, { query, signal }),
      hello: null,
      clock: this.#api.clock,
      signal: options.signal,
      recover: (error, { output, signal }) => this.#endOf(ref, error, { output, signal }),
    });
  }

  async #endOf(
    ref: string,
    error: KilnError,
    { output, signal }: { readonly output: OutputBuffer; readonly signal: AbortSignal },
  ): Promise<CommandExit | null> {
    if (error.code !== "VM_NOT_RUNNING") return null;
    const vm = await this.get(ref, { signal });
    if (vm.state === "failed" && vm.error !== null) throw parseProblem({ ...vm.error, object: vm.name });
    if (vm.state !== "exited") return null;
    for await (const chunk of this.logs(ref, { signal })) await output.push(chunk);
    return { exitCode: vm.exitCode, signal: vm.signal, oomKilled: false };
  }
}
