/** Limits of the conversation with an agent, each with its reason. */
export const AGENT_LIMITS = {
  /** From the channel's opening to HELLO_ACK: a cold boot on a loaded machine without hardware virtualization. */
  helloMs: 60_000,
  /** One request, unless it says otherwise: translation of cold guest code included. */
  requestMs: 30_000,
  /** SETUP replays the writable disk's journal. */
  setupMs: 60_000,
  /** How far behind a guest's clock may be when its command begins. Alone on a core it is behind by less than 10 ms, translation of cold code included. */
  clockLateMs: 20,
  /** On a host with thirty busy processes a core, answers take longer than that: then it stays as it is. */
  clockAttempts: 5,
  /** SYNC writes out what the guest has cached. */
  syncMs: 120_000,
  /** Beyond the grace period of POWEROFF: killing, writing out, unmounting. */
  powerOffMs: 60_000,
  /** Unread events of one attachment: a guest that alternates its streams byte by byte could fill the daemon otherwise. */
  queuedEvents: 65_536,
  /** A guest may be paused for long, and its client decides how long it waits: this only ends what everybody has forgotten. */
  dialMs: 24 * 3_600_000,
  /** Bytes for the guest that the channel has not taken: connections take turns for what is beyond, and a request never waits behind more. */
  backlogBytes: 65_536,
  /** Datagrams of one peer that wait in one direction; more are dropped, as on any network. */
  queuedDatagrams: 64,
} as const;
