import { asKilnError } from "@kiln/protocol/errors";
import type { CommandExit, CommandSession } from "@kiln/sdk";
import type { CommandContext } from "../context.ts";
import { writeTo } from "../streams.ts";
import { isDetached, relayStdin } from "./stdin.ts";

export interface RelayOptions {
  /** The command has a terminal: the caller's own becomes raw and its size follows. */
  readonly tty: boolean;
  readonly stdin: boolean;
  /** Signals of the process go to the command: docker's --sig-proxy. */
  readonly proxySignals: boolean;
}

export type RelayEnd = { readonly kind: "exit"; readonly exit: CommandExit } | { readonly kind: "detached" };

/** What docker's --sig-proxy passes on beside SIGINT, SIGTERM and SIGHUP, as far as a Node process can have it. */
const MORE_PROXIED = ["SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCONT"] as const;

/** After so many SIGINTs without an end the caller wants out, not the guest. */
const INTERRUPTS_TO_LEAVE = 3;

/** Joins a guest's command to the process's own streams until it ends or the caller detaches from it. */
export const relay = async (context: CommandContext, session: CommandSession, options: RelayOptions): Promise<RelayEnd> => {
  const stack = new DisposableStack();
  try {
    if (options.proxySignals) stack.use(proxySignals(context, session));
    const detached = Promise.withResolvers<RelayEnd>();
    if (options.tty) stack.use(followSize(context, session));
    if (options.stdin) {
      const input = relayStdin(context.host, session, { raw: options.tty });
      stack.use(input);
      input.ended.then(
        (end) => {
          if (isDetached(end)) detached.resolve({ kind: "detached" });
        },
        (error: unknown) => detached.reject(error),
      );
    }
    return await Promise.race([relayOutput(context, session), detached.promise]);
  } finally {
    stack.dispose();
  }
};

const relayOutput = async (context: CommandContext, session: CommandSession): Promise<RelayEnd> => {
  const { stdout, stderr } = context.host;
  for await (const chunk of session) {
    if (chunk.droppedBytes > 0) await context.note(`kiln: ${chunk.droppedBytes} bytes of ${chunk.stream} were dropped\n`);
    await writeTo(chunk.stream === "stdout" ? stdout : stderr, chunk.bytes);
  }
  return { kind: "exit", exit: await session.exit };
};

const proxySignals = (context: CommandContext, session: CommandSession): Disposable => {
  let interrupts = 0;
  return context.interrupts.intercept((signal) => {
    if (signal === "SIGINT") interrupts += 1;
    if (interrupts >= INTERRUPTS_TO_LEAVE) return false;
    session.sendSignal(signal).catch((error: unknown) => context.interrupts.abort(asKilnError(error)));
    return true;
  }, MORE_PROXIED);
};

/** The size of the caller's terminal; 24 by 80 where it has none. */
export const terminalSize = (context: CommandContext): { readonly rows: number; readonly cols: number } => {
  const { rows, columns } = context.host.stdout;
  return rows > 0 && columns > 0 ? { rows, cols: columns } : { rows: 24, cols: 80 };
};

const followSize = (context: CommandContext, session: CommandSession): Disposable => {
  const { stdout } = context.host;
  const resize = () => {
    session.resize(terminalSize(context)).catch((error: unknown) => context.interrupts.abort(asKilnError(error)));
  };
  resize();
  stdout.on("resize", resize);
  return { [Symbol.dispose]: () => void stdout.off("resize", resize) };
};
