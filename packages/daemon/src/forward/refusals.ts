import { errnoOf, KilnError } from "@kiln/protocol";
import { addressText, type HostAddress } from "../vms/ports.ts";

/** Why the host refuses an address, in Kiln's words; the cause keeps its own. */
export const bindError = (at: HostAddress, cause: unknown): KilnError => {
  const text = addressText(at);
  switch (errnoOf(cause)) {
    case "EADDRINUSE":
      return new KilnError("PORT_IN_USE", `${text} is held by another process`, { cause, object: text });
    case "EADDRNOTAVAIL":
    case "EAFNOSUPPORT":
    case "EINVAL":
      return new KilnError("PORT_UNAVAILABLE", `${text}: this host has no such address`, { cause, object: text });
    case "EACCES":
    case "EPERM":
      return new KilnError("PERMISSION_DENIED", `${text} may not be listened at by this user`, {
        ...{ cause, object: text },
        hint: "choose a port from 1024 on, or run Kiln as root",
      });
    default:
      return new KilnError("PORT_UNAVAILABLE", `${text} cannot be listened at`, { cause, object: text });
  }
};
