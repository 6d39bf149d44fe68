/**
 * The one error class and the one table of error codes.
 * On the wire an error is an RFC 9457 problem document; the table gives its HTTP status, the CLI's exit
 * code, whether a retry can help, and the hint: the next command to run.
 */

interface ErrorRow {
  readonly status: number;
  readonly exitCode: number;
  readonly retry: boolean;
  readonly hint: string;
}

const row = (status: number, exitCode: number, retry: boolean, hint: string): ErrorRow => ({
  status,
  exitCode,
  retry,
  hint,
});

export const ERROR_TABLE = {
  // what the caller asked for
  USAGE: row(400, 2, false, "run the command with --help"),
  REQUEST_INVALID: row(400, 2, false, "compare the request with `kiln COMMAND --help` or api/openapi.json"),
  REQUEST_TOO_LARGE: row(413, 1, false, "send less in one request"),
  REFERENCE_INVALID: row(
    400,
    1,
    false,
    "an image is NAME[:TAG] of a registry, oci:DIR[:TAG], docker-archive:FILE or deb:PACKAGE[,PACKAGE…]; see `kiln run --help`",
  ),
  NOT_FOUND: row(404, 1, false, "check the path and the API version"),
  IDEMPOTENCY_CONFLICT: row(409, 1, false, "use a new idempotency key for a different request"),
  PERMISSION_DENIED: row(403, 1, false, "run as the owner of the home, or choose another one with --home"),
  CANCELLED: row(499, 130, true, "run the command again"),
  // images and content
  IMAGE_NOT_FOUND: row(404, 1, false, "list what is there with `kiln images`"),
  IMAGE_SOURCE_MISSING: row(404, 1, false, "check the path; an OCI layout is a directory with an index.json"),
  IMAGE_INVALID: row(422, 1, false, "the image is damaged or not an OCI image; copy it again, for example with `skopeo copy`"),
  IMAGE_PLATFORM_MISSING: row(422, 1, false, "choose an image built for this machine's platform"),
  IMAGE_NAME_CONFLICT: row(409, 1, false, "replace what is there with --replace, or choose another name"),
  CUSTOMIZE_FAILED: row(422, 1, false, "correct the command; what it wrote last is above"),
  IMAGE_IN_USE: row(409, 1, false, "remove the VMs that use it first: `kiln ps -a`"),
  IMAGE_CONTENT_MISSING: row(409, 1, true, "run the command again; what is missing is sent again"),
  CONTENT_DIGEST_MISMATCH: row(422, 1, true, "the bytes do not match their digest; fetch them again"),
  CONTENT_SIZE_MISMATCH: row(422, 1, true, "the bytes are cut off or too long; fetch them again"),
  LAYER_INVALID: row(422, 1, false, "a layer of the image is damaged or hostile; build or copy the image again"),
  ROOTFS_INVALID: row(422, 1, false, "give an ext4 file system that `e2fsck -f` finds whole"),
  BUNDLE_INVALID: row(422, 1, false, "make the bundle again with `kiln image export`, or copy it again"),
  ROOTFS_TOO_LARGE: row(422, 1, false, "if the image is no bomb, start the daemon with a higher limit: docs/hostile-input.md names them"),
  PACKAGE_NOT_FOUND: row(404, 1, false, "look the name up with `apt-cache search`, and run `apt-get update` if the lists are old"),
  PACKAGE_FETCH_FAILED: row(502, 1, true, "run `apt-get update`, then the command again"),
  // registries
  REGISTRY_UNREACHABLE: row(502, 1, true, "check the name, the network and the proxy; a registry without TLS needs --plain-http"),
  REGISTRY_UNAUTHORIZED: row(401, 1, false, "log in with `docker login`, `podman login` or `skopeo login`, and check the image's name"),
  REGISTRY_RATE_LIMITED: row(429, 1, true, "wait, or log in: most registries allow more to who is known to them"),
  REGISTRY_FAILED: row(502, 1, true, "run the command again; if it stays, ask those who run the registry"),
  REGISTRY_REDIRECT_REFUSED: row(
    502,
    1,
    false,
    "the registry points where it must not; if you trust it, allow the host in registries.toml",
  ),
  REGISTRY_CONFIG_INVALID: row(500, 1, false, "correct the file that the message names"),
  REGISTRY_CREDENTIALS_INVALID: row(422, 1, false, "correct the file or the credential helper that the message names, or log in again"),
  // kernels
  KERNEL_NOT_FOUND: row(404, 1, false, "list what is there with `kiln kernel ls`"),
  KERNEL_INVALID: row(422, 1, false, "the kernel package is not one that Kiln understands; run `kiln doctor`"),
  KERNEL_IN_USE: row(409, 1, false, "remove the VMs that use it first: `kiln ps -a`"),
  ARTIFACT_DAMAGED: row(500, 1, true, "run the command again; the artifact is built again"),
  // VMs
  VM_NOT_FOUND: row(404, 1, false, "list them with `kiln ps -a`"),
  VM_NAME_TAKEN: row(409, 1, false, "choose another --name, or remove the other VM with `kiln rm -f NAME`"),
  VM_NOT_RUNNING: row(409, 1, false, "start it with `kiln start`"),
  VM_RUNNING: row(409, 1, false, "stop it first with `kiln stop`, or use `kiln rm -f`"),
  VM_NO_COMMAND: row(422, 125, false, "give a command after the image, or --idle for a VM that waits for exec"),
  VM_STATE_CONFLICT: row(409, 1, true, "see its state with `kiln inspect`"),
  VM_BOOT_FAILED: row(500, 125, true, "see the console with `kiln logs --console NAME`, and `kiln doctor`"),
  VM_DIED: row(500, 125, true, "see the console with `kiln logs --console NAME`"),
  CAPACITY_EXCEEDED: row(503, 1, true, "stop or remove a VM, or ask for less memory"),
  QUEUE_FULL: row(429, 1, true, "try again in a moment"),
  PORT_IN_USE: row(409, 1, false, "choose another port, or leave it out for a free one"),
  PORT_UNAVAILABLE: row(422, 1, false, "use an address of this host: `ip address` lists them"),
  PORT_NOT_FOUND: row(404, 1, false, "list what is published with `kiln port ls NAME`"),
  // in the guest
  EXEC_NOT_FOUND: row(404, 1, false, "the command has ended and was forgotten, or never ran"),
  COMMAND_NOT_FOUND: row(422, 127, false, "check the command and the image's PATH"),
  COMMAND_NOT_EXECUTABLE: row(422, 126, false, "check the file's mode and its interpreter"),
  GUEST_USER_UNKNOWN: row(422, 126, false, "use a user of the image's /etc/passwd, or a number"),
  GUEST_AGENT_TIMEOUT: row(504, 125, true, "see the console with `kiln logs --console NAME`"),
  GUEST_AGENT_PROTOCOL: row(502, 125, false, "the guest answered nonsense; restart the VM"),
  GUEST_SETUP_FAILED: row(500, 125, false, "see the console with `kiln logs --console NAME`"),
  // the host
  VMM_NOT_FOUND: row(503, 125, false, "install it with `apt-get install qemu-system-x86`, then run `kiln doctor`"),
  VMM_TOO_OLD: row(503, 125, false, "install a newer version, then run `kiln doctor`"),
  VMM_FAILED: row(500, 125, true, "run `kiln doctor`"),
  NETWORK_UNAVAILABLE: row(503, 125, true, "run `kiln doctor`; without a network a VM starts with `--network none`"),
  HOST_TOOL_MISSING: row(503, 1, false, "run `kiln doctor`; it names what to install"),
  DISK_FULL: row(507, 1, true, "make room (see `kiln df`), then run the command again"),
  HOME_IN_USE: row(409, 1, false, "stop the other daemon, or choose another --home"),
  HOME_INVALID: row(500, 1, false, "choose another --home, or repair its owner and mode (0700)"),
  HOME_VERSION: row(500, 1, false, "use the version of Kiln that wrote this home, or choose another --home"),
  DAEMON_UNREACHABLE: row(503, 1, true, "see the daemon's log, or start it with `kiln daemon start`"),
  INTERRUPTED: row(500, 1, true, "run the command again"),
  OPERATION_NOT_FOUND: row(404, 1, false, "list them with `kiln op ls -a`"),
  INTERNAL: row(500, 1, false, "this is a defect in Kiln; the daemon's log has the details"),
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERROR_TABLE;

/** RFC 9457 problem document with Kiln's extension members. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ErrorCode;
  readonly hint: string;
  readonly exitCode: number;
  readonly retry: boolean;
  readonly object: string | null;
  readonly operation: string | null;
  readonly causes: readonly string[];
}

export interface KilnErrorOptions {
  readonly cause?: unknown;
  /** The object it is about, for example a VM's name or a digest. */
  readonly object?: string | undefined;
  /** The id of the operation that failed. */
  readonly operation?: string | undefined;
  /** Replaces the table's hint where a better next step is known. */
  readonly hint?: string | undefined;
}

/** The message says what was being done to which object; the cause keeps its own words. */
export class KilnError extends Error {
  override readonly name = "KilnError";
  readonly code: ErrorCode;
  readonly hint: string;
  readonly object: string | null;
  readonly operation: string | null;
  /** The causes' messages of an error that came over the wire; a local one has them in `cause`. */
  readonly remoteCauses: readonly string[];

  constructor(code: ErrorCode, message: string, options: KilnErrorOptions & { remoteCauses?: readonly string[] } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint ?? ERROR_TABLE[code].hint;
    this.object = options.object ?? null;
    this.operation = options.operation ?? null;
    this.remoteCauses = options.remoteCauses ?? [];
  }

  get status(): number {
    return ERROR_TABLE[this.code].status;
  }

  get exitCode(): number {
    return ERROR_TABLE[this.code].exitCode;
  }

  get retry(): boolean {
    return ERROR_TABLE[this.code].retry;
  }
}

const CAUSE_LIMIT = 8;

/** The messages of an error's cause chain, outermost first, without the error's own. */
export const causesOf = (error: Error): string[] => {
  const causes: string[] = [];
  let cause: unknown = error.cause;
  while (cause instanceof Error && causes.length < CAUSE_LIMIT) {
    causes.push(cause.message);
    if (cause instanceof KilnError) causes.push(...cause.remoteCauses);
    if (cause instanceof AggregateError) {
      causes.push(...cause.errors.slice(0, CAUSE_LIMIT).map((one) => (one instanceof Error ? one.message : String(one))));
    }
    cause = cause.cause;
  }
  return causes;
};

/** Anything thrown, as a KilnError: unknown errors become INTERNAL and keep themselves as the cause. */
export const asKilnError = (thrown: unknown): KilnError => {
  if (thrown instanceof KilnError) return thrown;
  const code = errnoOf(thrown);
  if (code === "ENOSPC" || code === "EDQUOT" || isSqliteFull(thrown))
    return new KilnError("DISK_FULL", "no space left on the device", { cause: thrown });
  if (thrown instanceof Error && thrown.name === "AbortError") return new KilnError("CANCELLED", "cancelled", { cause: thrown });
  return new KilnError("INTERNAL", thrown instanceof Error ? thrown.message : String(thrown), { cause: thrown });
};

/** SQLITE_FULL (sqlite.org/rescode.html). */
const SQLITE_FULL = 13;

const isSqliteFull = (thrown: unknown): boolean => thrown instanceof Error && "errcode" in thrown && thrown.errcode === SQLITE_FULL;

/** The `code` of a Node system error, searched along the cause chain. */
export const errnoOf = (thrown: unknown): string | null => {
  let error = thrown;
  for (let depth = 0; error instanceof Error && depth < CAUSE_LIMIT; depth += 1) {
    if ("code" in error && typeof error.code === "string" && !(error instanceof KilnError)) return error.code;
    error = error.cause;
  }
  return null;
};

export const toProblem = (error: KilnError): Problem => ({
  type: `urn:kiln:error:${error.code}`,
  title: error.code.toLowerCase().replaceAll("_", " "),
  status: error.status,
  detail: error.message,
  code: error.code,
  hint: error.hint,
  exitCode: error.exitCode,
  retry: error.retry,
  object: error.object,
  operation: error.operation,
  causes: [...error.remoteCauses, ...causesOf(error)],
});

const isErrorCode = (code: unknown): code is ErrorCode => typeof code === "string" && Object.hasOwn(ERROR_TABLE, code);

/** A problem document from the wire as an error; an unknown code becomes INTERNAL with the words kept. */
export const parseProblem = (value: unknown): KilnError => {
  const problem: Partial<Record<keyof Problem, unknown>> = typeof value === "object" && value !== null ? value : {};
  const text = (field: unknown): string | undefined => (typeof field === "string" ? field : undefined);
  return new KilnError(
    isErrorCode(problem.code) ? problem.code : "INTERNAL",
    text(problem.detail) ?? "the daemon sent an error without details",
    {
      hint: text(problem.hint),
      object: text(problem.object),
      operation: text(problem.operation),
      remoteCauses: Array.isArray(problem.causes) ? problem.causes.filter((one) => typeof one === "string") : [],
    },
  );
};
