/** Primitives that need nothing but the language and the web platform: safe in Node and in a browser. */
export { abortable } from "./abortable.ts";
export { assertNever } from "./assert-never.ts";
export { systemClock, type Clock } from "./clock.ts";
export { signalAfter, withDeadline, type DeadlineOptions } from "./deadline.ts";
export { Deferred } from "./deferred.ts";
export { FakeClock } from "./fake-clock.ts";
export { FairGate, type AdmitOptions } from "./fair-gate.ts";
export { type FileFingerprint } from "./file-fingerprint.ts";
export { KeyedLock } from "./keyed-lock.ts";
export { randomFraction, randomHex, seededRandom, systemRandom, type RandomSource } from "./random.ts";
export { retry, type RetryOptions } from "./retry.ts";
export { QueueFullError, Semaphore, type AcquireOptions } from "./semaphore.ts";
export { SingleFlight, type RunOptions, type Work, type WorkContext } from "./single-flight.ts";
