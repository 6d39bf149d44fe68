import { duplexPair, type Duplex } from "node:stream";
import type { Clock } from "@kiln/std";
import { Deferred } from "@kiln/std";
import type { Scheduler } from "../sim/scheduler.ts";

export interface CableOptions {
  /** Which way: of each piece, as often as it is to arrive; by default once. */
  readonly copies?: (from: "host" | "guest", bytes: Uint8Array) => number;
}

export interface Cable {
  /** What the host speaks through. */
  readonly host: Duplex;
  /** Bytes that nobody has sent in this session. */
  toHost(bytes: Uint8Array): void;
  /** Both ends see that it is gone; what was on its way is lost. */
  cut(): void;
}

/** A stretch of wire before `guest`: each piece arrives when its turn has come, in order within its direction. */
export const layCable = (scheduler: Scheduler, guest: Duplex, { copies = () => 1 }: CableOptions = {}): Cable => {
  const [host, end] = duplexPair();
  const cut = (): void => {
    end.destroy();
    guest.destroy();
  };
  void carry(scheduler, { from: end, to: guest, label: "to the guest", copies: (bytes) => copies("host", bytes) });
  void carry(scheduler, { from: guest, to: end, label: "to the host", copies: (bytes) => copies("guest", bytes) });
  for (const one of [end, guest, host]) one.on("error", () => undefined);
  guest.on("close", () => end.destroy());
  end.on("close", () => host.destroy());
  host.on("close", cut);
  return { host, cut, toHost: (bytes) => void end.write(bytes) };
};

const carry = async (
  scheduler: Scheduler,
  way: { from: Duplex; to: Duplex; label: string; copies: (bytes: Uint8Array) => number },
): Promise<void> => {
  const { from, to, label, copies } = way;
  const waiting: Uint8Array[] = [];
  let arrived = new Deferred<void>();
  from.on("data", (bytes: Uint8Array) => {
    waiting.push(bytes);
    arrived.resolve();
  });
  from.on("end", () => arrived.resolve());
  while (!from.destroyed && !from.readableEnded) {
    await arrived.promise;
    arrived = new Deferred<void>();
    for (let bytes = waiting.shift(); bytes !== undefined; bytes = waiting.shift()) {
      await scheduler.step(label);
      for (let copy = copies(bytes); copy > 0 && !to.destroyed; copy -= 1) to.write(bytes);
    }
  }
  if (!to.destroyed) to.end();
};

const PARTS = 200;

/**
 * A clock on which a deadline is missed by what never comes, not by a slow step: it sleeps in many parts, between which
 * everybody else can go on.
 */
export const patient = (clock: Clock): Clock => ({
  ...clock,
  sleep: async (ms, options) => {
    for (let part = 0; part < PARTS; part += 1) await clock.sleep(ms / PARTS, options);
  },
});
