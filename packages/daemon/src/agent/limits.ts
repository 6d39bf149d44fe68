/** Limits of the conversation with an agent, each with its reason. */
export const AGENT_LIMITS = {
  /** From the channel's opening to HELLO_ACK: a cold boot on a loaded machine without hardware virtualization. */
  helloMs: 60_000,
  /** One request, unless it says otherwise: translation of cold guest code included. */
  requestMs: 30_000,
  /** SETUP replays the writable disk's journal. */
  setupMs: 60_000,
  /** SYNC writes out what the guest has cached. */
  syncMs: 120_000,
  /** Beyond the grace period of POWEROFF: killing, writing out, unmounting. */
  powerOffMs: 60_000,
  /** Unread events of one attachment: a guest that alternates its streams byte by byte could fill the daemon otherwise. */
  queuedEvents: 65_536,
} as const;
