import type { ErrorCode } from "@kiln/protocol";
import type { CommandName, Program } from "./program.ts";

/** What a command may fail with in a world where nothing is broken. What is not here is a defect. */
const ALWAYS: Readonly<Record<CommandName, readonly ErrorCode[]>> = {
  create: [
    ...["VM_NAME_TAKEN", "IMAGE_NOT_FOUND", "IMAGE_NAME_CONFLICT", "CAPACITY_EXCEEDED", "PORT_IN_USE", "IDEMPOTENCY_CONFLICT", "CANCELLED"],
    // another removes or kills it while it starts
    ...["VM_NOT_FOUND", "VM_DIED"],
  ] as ErrorCode[],
  start: ["VM_NOT_FOUND", "VM_STATE_CONFLICT", "CAPACITY_EXCEEDED", "PORT_IN_USE", "IDEMPOTENCY_CONFLICT", "CANCELLED", "VM_DIED"],
  stop: ["VM_NOT_FOUND", "IDEMPOTENCY_CONFLICT", "CANCELLED"],
  rm: ["VM_NOT_FOUND", "VM_RUNNING", "IDEMPOTENCY_CONFLICT", "CANCELLED"],
  // another has given the name to something else meanwhile
  pull: ["IMAGE_NOT_FOUND", "IMAGE_NAME_CONFLICT", "IDEMPOTENCY_CONFLICT", "CANCELLED"],
  verify: ["IMAGE_NOT_FOUND", "IDEMPOTENCY_CONFLICT", "CANCELLED"],
  rebuild: ["IMAGE_NOT_FOUND", "IDEMPOTENCY_CONFLICT", "CANCELLED"],
  kill: ["VM_NOT_FOUND", "VM_NOT_RUNNING"],
  // a VM whose own command has ended takes the channel with it
  exec: ["VM_NOT_FOUND", "VM_NOT_RUNNING", "EXEC_NOT_FOUND", "GUEST_AGENT_PROTOCOL", "GUEST_AGENT_TIMEOUT", "CANCELLED"],
  wait: ["VM_NOT_FOUND", "VM_STATE_CONFLICT", "VM_DIED", "CANCELLED"],
  "image.rm": ["IMAGE_NOT_FOUND", "IMAGE_IN_USE"],
  tag: ["IMAGE_NOT_FOUND", "IMAGE_NAME_CONFLICT"],
  prune: [],
  "port.add": ["VM_NOT_FOUND", "PORT_IN_USE"],
  "port.rm": ["VM_NOT_FOUND", "PORT_NOT_FOUND"],
  cancel: ["OPERATION_NOT_FOUND"],
  idle: [],
};

const STARTS: ReadonlySet<CommandName> = new Set(["create", "start", "wait", "exec", "rebuild"]);
const FETCHES: ReadonlySet<CommandName> = new Set(["create", "start", "pull", "rebuild", "tag"]);
const BUILDS: ReadonlySet<CommandName> = new Set(["create", "start", "pull", "rebuild"]);
const READS: ReadonlySet<CommandName> = new Set([...FETCHES, "verify", "image.rm", "prune"]);

const BAD_BOOTS: readonly ErrorCode[] = [
  ...(["VM_BOOT_FAILED", "VM_DIED", "VMM_FAILED", "GUEST_AGENT_TIMEOUT", "GUEST_AGENT_PROTOCOL", "GUEST_SETUP_FAILED"] as const),
];
const REGISTRY: readonly ErrorCode[] = [
  ...(["REGISTRY_UNREACHABLE", "REGISTRY_FAILED", "REGISTRY_RATE_LIMITED", "REGISTRY_UNAUTHORIZED"] as const),
  ...(["PACKAGE_FETCH_FAILED", "CONTENT_DIGEST_MISMATCH", "CONTENT_SIZE_MISMATCH"] as const),
];

/** What a command of this program may fail with. */
export const allowedCodes = (name: CommandName, { setting, fates, clients }: Program, crashes: number): ReadonlySet<string> => {
  const { faults, badBoots } = setting;
  const [fails, failsToBoot] = [(faults.registry ?? 0) > 0, badBoots + (faults.vmm ?? 0) + (faults.death ?? 0) + (faults.channel ?? 0) > 0];
  const befalls = new Set<string>(fates.map((fate) => fate.do));
  const does = new Set<string>(clients.flat().map((command) => command.do));
  const dies = befalls.has("vmm.die") || befalls.has("guest.off") || does.has("kill") || does.has("rm") || befalls.has("power.loss");
  const breaksFiles = befalls.has("damage") || befalls.has("power.loss");
  const breaks = failsToBoot || dies || crashes > 0;
  return new Set<ErrorCode>([
    ...ALWAYS[name],
    ...(breaks && STARTS.has(name) ? BAD_BOOTS : []),
    ...(fails && FETCHES.has(name) ? REGISTRY : []),
    ...((faults.disk ?? 0) > 0 || befalls.has("disk.full") ? (["DISK_FULL"] as const) : []),
    // a damaged layer is not fetched again before `image rebuild` or the scrub
    ...(befalls.has("damage") && BUILDS.has(name) ? (["LAYER_INVALID", "ARTIFACT_DAMAGED"] as const) : []),
    ...(breaksFiles && READS.has(name) ? (["ARTIFACT_DAMAGED", "IMAGE_CONTENT_MISSING"] as const) : []),
    // what three daemons could not end is taken back; and what was taken back right before a crash does not say why
    ...(crashes > 0 ? (["INTERRUPTED"] as const) : []),
  ]);
};
