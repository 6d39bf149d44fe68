import type {
  DaemonStatus,
  DfReport,
  DoctorReport,
  Explanation,
  KernelView,
  KilnEvent,
  OperationView,
  PruneReport,
  PruneRequest,
  WarmKernelRequest,
} from "@kiln/protocol";
import { systemClock, systemRandom, type Clock, type RandomSource } from "@kiln/std";
import { ApiClient, type CallOptions } from "./api-client.ts";
import { type EventOptions, readEvents } from "./event-stream.ts";
import { Images } from "./resources/images.ts";
import { Operations } from "./resources/operations.ts";
import { Vms } from "./resources/vms.ts";
import type { Transport } from "./transport.ts";

/** The client of one daemon. Every method rejects with KilnError; disposing of it closes its idle connections. */
export class Kiln implements Disposable {
  readonly vms: Vms;
  readonly images: Images;
  readonly operations: Operations;
  readonly kernels: {
    list(options?: CallOptions): Promise<KernelView[]>;
    /** Makes what VMs of a shape start from ahead of the first one. The operation's `result` is the snapshot's key. */
    warm(request?: WarmKernelRequest, options?: CallOptions): Promise<OperationView>;
  };
  readonly daemon: {
    status(options?: CallOptions): Promise<DaemonStatus>;
    /** VMs run on. Resolves when the daemon has taken the request, not when it has ended. */
    stop(options?: CallOptions): Promise<void>;
  };
  readonly #api: ApiClient;

  constructor(transport: Transport, ambient: { readonly clock?: Clock; readonly random?: RandomSource } = {}) {
    const api = new ApiClient(transport, { clock: ambient.clock ?? systemClock, random: ambient.random ?? systemRandom });
    this.#api = api;
    this.vms = new Vms(api);
    this.images = new Images(api);
    this.operations = new Operations(api);
    this.kernels = {
      list: (options) => api.json("GET", "/v1/kernels", options),
      warm: (request = {}, options = {}) => api.json("POST", "/v1/kernels/warm", { json: request, signal: options.signal }),
    };
    this.daemon = {
      status: (options) => api.json("GET", "/v1/daemon", options),
      stop: async (options) => {
        await api.json("POST", "/v1/daemon/stop", { json: {}, ...options });
      },
    };
  }

  /** What of this machine helps or hinders. */
  doctor(options?: CallOptions): Promise<DoctorReport> {
    return this.#api.json("GET", "/v1/doctor", options);
  }

  /** The names of the points at which a test can make the daemon fail. */
  failpoints(options?: CallOptions): Promise<string[]> {
    return this.#api.json("GET", "/v1/failpoints", options);
  }

  /** What lies on the disk. */
  df(options?: CallOptions): Promise<DfReport> {
    return this.#api.json("GET", "/v1/df", options);
  }

  /** Removes what nobody uses: unless told, VMs that have ended, old kernels, and blobs that no image has. */
  prune(request: PruneRequest = {}, options: CallOptions = {}): Promise<PruneReport> {
    return this.#api.json("POST", "/v1/prune", { json: request, signal: options.signal });
  }

  /** Reads all artifacts in full; what is damaged is built again, or goes. The operation's `report` has a result for each. */
  scrub(options: CallOptions = {}): Promise<OperationView> {
    return this.#api.json("POST", "/v1/scrub", { json: {}, signal: options.signal });
  }

  /** Why a VM, an operation, an image or a digest is as it is. Throws NOT_FOUND for what nothing is known of. */
  explain(subject: string, options?: CallOptions): Promise<Explanation> {
    return this.#api.json("GET", `/v1/explain/${encodeURIComponent(subject)}`, options);
  }

  /** What happened and happens in this home, each event once, whatever becomes of connections and daemons. */
  events(options: EventOptions = {}): AsyncGenerator<KilnEvent> {
    return readEvents(this.#api, options);
  }

  [Symbol.dispose](): void {
    this.#api.close();
  }
}
