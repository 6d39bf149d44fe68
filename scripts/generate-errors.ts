import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { ERROR_TABLE, type ErrorCode } from "@kiln/protocol/errors";

/** `scripts/node scripts/generate-errors.ts` writes docs/errors.md; a test holds the committed file against it. */
export const ERRORS_PATH = fileURLToPath(new URL("../docs/errors.md", import.meta.url));

/** What codes mean to whoever meets them. */
type Meanings = Partial<Record<ErrorCode, string>>;

const REQUESTS = {
  USAGE: "The command line has a wrong flag, value or argument. Nothing was done.",
  REQUEST_INVALID: "The daemon got a request that its API does not allow: a field is missing, unknown or out of its range.",
  REQUEST_TOO_LARGE: "The request is longer than the API takes.",
  REFERENCE_INVALID: "What was given as an image is none of the forms that an image can have, or stands for several.",
  NOT_FOUND: "The API has no such route.",
  IDEMPOTENCY_CONFLICT: "The idempotency key of a request was used before, for a different request.",
  PERMISSION_DENIED:
    "You may not read or write a file or a socket that is needed, or this host's registries.toml does not allow the registry.",
  CANCELLED: "The operation was interrupted (Ctrl-C, `kiln op cancel`). What it had begun is undone.",
} as const satisfies Meanings;

const IMAGES = {
  IMAGE_NOT_FOUND: "Neither this home nor the registry has an image of that name, or `--pull never` kept Kiln from fetching it.",
  IMAGE_SOURCE_MISSING: "The layout or the archive that the reference names is not there.",
  IMAGE_INVALID:
    "A manifest, an index, a configuration, a layout or an archive is damaged, or of a kind that is not an OCI or docker image.",
  IMAGE_PLATFORM_MISSING: "The image exists, but not for the platform that was asked for, which is this machine's by default.",
  IMAGE_NAME_CONFLICT:
    "The name leads to another image already, or somebody moved it meanwhile; it still leads there, and nothing was changed.",
  CUSTOMIZE_FAILED:
    "A command of `kiln image customize` ended with another code than 0, or by a signal. Nothing was published, and its VM is gone.",
  IMAGE_IN_USE: "The image is not removed, since a VM or a running operation uses it.",
  IMAGE_CONTENT_MISSING: "Layers of the image are not in the content store, or went away while they were wanted.",
  CONTENT_DIGEST_MISMATCH: "Bytes arrived that are not those of their digest. They were thrown away.",
  CONTENT_SIZE_MISMATCH: "Fewer or more bytes arrived than were announced. They were thrown away.",
  LAYER_INVALID: "A layer cannot become part of a file system: its archive is damaged, or has an entry that no image may have.",
  ROOTFS_INVALID:
    "The file is no ext4, is damaged, or is one that a guest's kernel does not mount; the message names the block or the inode.",
  BUNDLE_INVALID:
    "The file is no bundle of `kiln image export`, or is not whole: an entry is missing, out of place, or other than its digest says.",
  ROOTFS_TOO_LARGE: "The image has more bytes or more files than a rootfs can hold.",
  PACKAGE_NOT_FOUND: "apt knows no Debian package of that name or version.",
  PACKAGE_FETCH_FAILED:
    "apt could not resolve, fetch or verify Debian packages, or its lists are missing; its own words are in the message.",
} as const satisfies Meanings;

const REGISTRIES = {
  REGISTRY_UNREACHABLE: "No registry answered: the name does not resolve, the connection fails, or TLS does not come about.",
  REGISTRY_UNAUTHORIZED:
    "The registry refuses access with the credentials that it got, or without any. Many registries say the same of an image that does not exist.",
  REGISTRY_RATE_LIMITED: "The registry wants fewer requests, and a longer pause than Kiln waits by itself.",
  REGISTRY_FAILED:
    "The registry or a mirror answered with an error or with nonsense, also after retries; its own words are in the message.",
  REGISTRY_REDIRECT_REFUSED:
    "The registry sent Kiln to an address that a stranger must not reach through it: loopback, a private network, link-local, or plain HTTP.",
  REGISTRY_CONFIG_INVALID: "A file that says how registries are reached (registries.toml, a certificate) cannot be understood.",
  REGISTRY_CREDENTIALS_INVALID: "A file with your credentials cannot be understood, or a credential helper that it names fails.",
} as const satisfies Meanings;

const KERNELS = {
  KERNEL_NOT_FOUND: "There is no kernel set of that name, or it was removed meanwhile.",
  KERNEL_INVALID: "The kernel package or kernel set is not built as Kiln expects it.",
  KERNEL_IN_USE: "The kernel set is not removed, since VMs boot from it.",
  ARTIFACT_DAMAGED: "A file of the home (a rootfs, a kernel set, a disk) is missing or is not what was recorded of it. It is not used.",
} as const satisfies Meanings;

const VMS = {
  VM_NOT_FOUND: "No VM has that name or id.",
  VM_NAME_TAKEN: "Another VM of this home has the name.",
  VM_NOT_RUNNING: "It takes a running VM, and this one is not running.",
  VM_RUNNING: "It takes a VM that does not run, and this one runs.",
  VM_NO_COMMAND: "There is no command to run: none was given, and the image names none.",
  VM_STATE_CONFLICT: "Something else happened to the VM at the same time: another command changed it or took its stream over.",
  VM_BOOT_FAILED: "The guest did not come up in time, or its daemon ended while it did.",
  VM_DIED: "The guest or its VMM ended by itself: a kernel panic, too little memory on the host, a signal from somebody else.",
  CAPACITY_EXCEEDED: "The VMs that run have reserved so much of the host's memory that this one does not fit.",
  PORT_IN_USE:
    "An address of the host that a VM wants belongs to another VM of this home, which the message names, or another process listens there.",
  PORT_UNAVAILABLE: "A port is to be published at an address that this host does not have.",
  PORT_NOT_FOUND: "The VM has published no such port.",
  QUEUE_FULL: "So many boots wait already that another one is not queued.",
} as const satisfies Meanings;

const GUEST = {
  EXEC_NOT_FOUND: "The VM knows no command with that exec id.",
  COMMAND_NOT_FOUND: "The guest has no such program.",
  COMMAND_NOT_EXECUTABLE: "The guest has the program, but cannot run it: its mode, its interpreter or its architecture.",
  GUEST_USER_UNKNOWN: "The image's /etc/passwd or /etc/group has no such name.",
  GUEST_AGENT_TIMEOUT: "Kiln's agent in the guest does not answer, or the connection to it broke.",
  GUEST_AGENT_PROTOCOL: "What comes from the guest is not what its agent says. The connection was closed.",
  GUEST_SETUP_FAILED: "The agent could not mount the disks or prepare the guest.",
} as const satisfies Meanings;

const HOST = {
  VMM_NOT_FOUND: "QEMU is not installed on this host, or not where Kiln looks for it.",
  VMM_TOO_OLD: "The host's QEMU is older than the oldest that Kiln works with.",
  VMM_FAILED: "QEMU did not start, or failed; its own words are in the message.",
  NETWORK_UNAVAILABLE: "The network of VMs cannot be set up on this host, for example because pasta is not installed.",
  HOST_TOOL_MISSING: "A program of the host that Kiln needs is not installed, or the guest agent is not built.",
  DISK_FULL: "The file system of the home has no room for what was to be written. What was half written is gone.",
  HOME_IN_USE: "Another daemon holds the home. One home has one daemon.",
  HOME_INVALID: "The home is not a directory, belongs to somebody else, or holds other things.",
  HOME_VERSION: "A newer version of Kiln wrote the home.",
  DAEMON_UNREACHABLE: "No daemon answers on the home's socket, and none could be started, or it went away in the middle.",
  INTERRUPTED: "The daemon ended while the work was under way, and what had been done was taken back.",
  OPERATION_NOT_FOUND: "There is no operation with that id, or it is so old that it was forgotten.",
  INTERNAL: "Something happened that Kiln has no word for.",
} as const satisfies Meanings;

/** A code without a meaning does not compile. */
const MEANINGS: Readonly<Record<ErrorCode, string>> = { ...REQUESTS, ...IMAGES, ...REGISTRIES, ...KERNELS, ...VMS, ...GUEST, ...HOST };

const CHAPTERS: readonly (readonly [string, Meanings])[] = [
  ["What was asked for", REQUESTS],
  ["Images", IMAGES],
  ["Registries", REGISTRIES],
  ["Kernels and what is built", KERNELS],
  ["VMs", VMS],
  ["In the guest", GUEST],
  ["The host, the home and the daemon", HOST],
];

const INTRODUCTION = `<!-- Written by scripts/generate-errors.ts from packages/protocol/src/errors.ts: change those, not this page. -->

# Errors

Every error that Kiln reports has one of these codes. For people it is printed as what went wrong, its causes, and the next step:

    kiln: the name web is taken by another VM
      hint: ${ERROR_TABLE.VM_NAME_TAKEN.hint}

With \`--json\` it is one line on stderr, and stdout stays empty: a problem document (RFC 9457) with \`code\`, \`detail\`, \`hint\`, \`exitCode\`,
\`retry\`, \`object\` (what it is about), \`operation\` and \`causes\`. The HTTP API answers with the same document and the status shown here.

- **Exit code**: what \`kiln\` exits with. \`run\` and \`exec\` exit with 125 where the command in the VM was never reached, whatever the code, except
  for 2, 126, 127 and 130. Otherwise they exit with the command's own code, or 128 and the number of the signal that ended it.
- **Retry**: whether the same command can succeed later without a change.
- **Next step**: the hint of the table. An error can bring a better one of its own.

\`kiln doctor\` says what of the machine stands in the way.
`;

const describeCode = (code: ErrorCode): string => {
  const { status, exitCode, retry, hint } = ERROR_TABLE[code];
  return `### ${code}

${MEANINGS[code]}

- exit code ${exitCode}, HTTP ${status}, a retry ${retry ? "can" : "does not"} help
- next step: ${hint.replace(/--[a-z-]+(?![^`]*`)/g, "`$&`")}
`;
};

const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(ERROR_TABLE, code);

export const generateErrors = (): string => {
  const chapters = CHAPTERS.map(([title, meanings]) =>
    [`## ${title}\n`, ...Object.keys(meanings).filter(isErrorCode).map(describeCode)].join("\n"),
  );
  return [INTRODUCTION, ...chapters].join("\n");
};

if (import.meta.main) writeFileSync(ERRORS_PATH, generateErrors());
