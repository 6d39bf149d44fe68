import type { ContentLease } from "../images/ports.ts";

/** For tests without a sweep. */
export const lease: ContentLease = { hold: () => undefined, linger: () => undefined, [Symbol.dispose]: () => undefined };
