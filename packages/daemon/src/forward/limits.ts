/** Limits of published ports, each with its reason. */
export const FORWARD_LIMITS = {
  /** Clients of one port, those that wait for a guest included: the guest takes no more. */
  clients: 512,
  /** Peers of one UDP port: each has a socket in the guest. The one that was silent longest gives way. */
  peers: 128,
  /** A peer that was silent for so long has gone; as long as Linux remembers one-way UDP twice over. */
  peerIdleMs: 60_000,
  sweepMs: 5_000,
  /** Datagrams of a peer whose guest is not there yet. */
  waitingDatagrams: 64,
  /** A client whose host has vanished is noticed after minutes, not never. */
  keepAliveMs: 60_000,
} as const;
