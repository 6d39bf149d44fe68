import { KilnError, type ErrorCode } from "@kiln/protocol/errors";
import { TAGS, WIRE_ERRORS, type TlvFields } from "@kiln/protocol/wire";

/** What each refusal of the guest is to the caller. */
const CODES: ReadonlyMap<number, ErrorCode> = new Map<number, ErrorCode>([
  [WIRE_ERRORS.EXEC_NOT_FOUND, "EXEC_NOT_FOUND"],
  [WIRE_ERRORS.COMMAND_NOT_FOUND, "COMMAND_NOT_FOUND"],
  [WIRE_ERRORS.COMMAND_NOT_EXECUTABLE, "COMMAND_NOT_EXECUTABLE"],
  [WIRE_ERRORS.USER_UNKNOWN, "GUEST_USER_UNKNOWN"],
  [WIRE_ERRORS.SETUP_FAILED, "GUEST_SETUP_FAILED"],
  [WIRE_ERRORS.LIMIT, "QUEUE_FULL"],
  [WIRE_ERRORS.FAILED, "VM_STATE_CONFLICT"],
  [WIRE_ERRORS.NOT_READY, "VM_NOT_RUNNING"],
]);

/** Linux's names of the errnos that a guest's refusals have, the same on x86-64 and arm64. */
const ERRNOS: ReadonlyMap<number, string> = new Map([
  [1, "EPERM"],
  [2, "ENOENT"],
  [5, "EIO"],
  [6, "ENXIO"],
  [7, "E2BIG"],
  [8, "ENOEXEC"],
  [11, "EAGAIN"],
  [12, "ENOMEM"],
  [13, "EACCES"],
  [16, "EBUSY"],
  [17, "EEXIST"],
  [19, "ENODEV"],
  [20, "ENOTDIR"],
  [21, "EISDIR"],
  [22, "EINVAL"],
  [24, "EMFILE"],
  [26, "ETXTBSY"],
  [28, "ENOSPC"],
  [30, "EROFS"],
  [36, "ENAMETOOLONG"],
  [40, "ELOOP"],
  [99, "EADDRNOTAVAIL"],
  [110, "ETIMEDOUT"],
  [111, "ECONNREFUSED"],
  [117, "EUCLEAN"],
  [125, "ECANCELED"],
]);

const EXPLANATIONS: ReadonlyMap<string, string> = new Map([
  ["ENOENT", "no such file or directory"],
  ["EACCES", "permission denied"],
  ["ENOEXEC", "exec format error"],
  ["E2BIG", "the arguments are too long"],
]);

const errnoText = (errno: number): string => {
  const name = ERRNOS.get(errno) ?? `errno ${errno}`;
  const explanation = EXPLANATIONS.get(name);
  return explanation === undefined ? name : `${explanation} (${name})`;
};

/** The guest's refusal of a request, its words kept; `action` is what was asked of it, for example "exec of web-1". */
export const refusal = (error: number, fields: TlvFields, action: string): KilnError => {
  const words = [
    fields.has(TAGS.STEP) ? `step ${fields.text(TAGS.STEP)}` : null,
    fields.has(TAGS.MESSAGE) ? fields.text(TAGS.MESSAGE) : null,
    fields.has(TAGS.ERRNO) ? errnoText(fields.u32(TAGS.ERRNO)) : null,
  ];
  const said = words.filter((part) => part !== null && part !== "").join(": ");
  return new KilnError(CODES.get(error) ?? "GUEST_AGENT_PROTOCOL", `${action}: ${said === "" ? `the guest refused (${error})` : said}`);
};
