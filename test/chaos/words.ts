import type { ChaosDriver } from "./plan.ts";

/** What commands are in a guest of a driver. */
export interface GuestWords {
  /** Writes a nonce down where it can be read back, then says it. */
  note(nonce: string, holdMs: number): string[];
  readonly "crash-guest": string[];
  readonly "hang-up": string[];
}

/** In the guest's own disk, where guests have one. */
export const GUEST_NOTES = "nonces";

export const wordsOf = ({ driver, notes }: { readonly driver: ChaosDriver; readonly notes: string }): GuestWords =>
  driver === "fake"
    ? {
        note: (nonce, holdMs) => ["sh", "-c", `record ${notes} ${nonce}; sleep ${holdMs / 1000}; echo ${nonce}`],
        "crash-guest": ["halt"],
        "hang-up": ["hang-up"],
      }
    : {
        note: (nonce, holdMs) => [
          ...["/bin/busybox", "sh", "-c"],
          `echo ${nonce} >>/${GUEST_NOTES} && /bin/busybox sync && /bin/busybox sleep ${holdMs / 1000} && echo ${nonce}`,
        ],
        "crash-guest": ["/bin/busybox", "sh", "-c", "echo c >/proc/sysrq-trigger"],
        // all but PID 1, which no process of the guest can kill
        "hang-up": ["/bin/busybox", "kill", "-9", "-1"],
      };
