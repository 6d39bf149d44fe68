import type { ErrorCode } from "@kiln/protocol";

export const FINISHED_LETTER = "●";

/** Errors with which a command may end where its daemon dies or a step of it fails, each with its reason. */
export const ERROR_LETTERS: Readonly<Record<string, { readonly letter: string; readonly text: string }>> = {
  VM_DIED: { letter: "D", text: "A fake guest dies with its daemon, and a command that ran is not run twice." },
  INTERRUPTED: { letter: "I", text: "It was taken back, and the daemon died before it said why." },
  VM_NOT_RUNNING: { letter: "R", text: "The same, seen by the command that was to end it." },
  DAEMON_UNREACHABLE: {
    letter: "N",
    text: "The daemon died before it took a request, and nothing was begun; or the next ones, which went on with it, died there too before they answered.",
  },
  INTERNAL: { letter: "T", text: "It was taken back, and its caller is told what made it fail." },
} satisfies Partial<Record<ErrorCode, object>>;
