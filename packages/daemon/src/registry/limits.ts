/** How long registries are waited for, and how much of them is believed. */
export const REGISTRY_LIMITS = {
  /** A SYN that is lost three times comes again after 7 s; a host that takes longer is down. */
  connectMs: 15_000,
  /** Until the head of an answer is there: registries that fetch from elsewhere first take some seconds. */
  headersMs: 60_000,
  /** Between two pieces of a body. */
  idleMs: 30_000,
  /** A manifest or a token as a whole, its redirects and logins included. */
  documentMs: 120_000,
  /** Over so long of waiting for a body … */
  slowWindowMs: 60_000,
  /** … at least so many bytes come, or the connection is given up: a modem brings a hundred times that. */
  slowWindowBytes: 60 * 1024,
  /** How often one thing is tried at one host without getting further, the first time included. */
  attempts: 5,
  /** The same at a mirror: there is somebody else to ask. */
  mirrorAttempts: 2,
  /** How long a mirror is waited for that asks for time. */
  mirrorRetryAfterMs: 2000,
  /** How often a blob is tried at one host in all, however far each time gets. */
  transferAttempts: 100,
  /** A try that brings so much counts as progress. */
  progressBytes: 256 * 1024,
  /** The pause after the first failure; each further one is twice as long. */
  pauseMs: 250,
  pauseMaxMs: 10_000,
  /** A registry that asks for a longer pause is not waited for: people want to know. */
  retryAfterMs: 120_000,
  /** As docker and containerd have it, halved: a registry redirects once, its storage perhaps again. */
  redirects: 5,
  /** docker's default of layers that one pull fetches at once. */
  layersPerPull: 3,
  /** Blobs that come from one host at once, so that many pulls do not take each other's time out. */
  blobsPerHost: 6,
  /** What is read of the body of a refusal. */
  refusalBytes: 16 * 1024,
  /** Letters of a registry's own words in a message. */
  refusalLetters: 300,
  tokenAnswerBytes: 256 * 1024,
  /** Node's limit for the headers of a request is 16 KiB; some registries have tokens of several. */
  tokenLetters: 12 * 1024,
  /** What a token lives at least, by distribution's specification. */
  tokenSecondsMin: 60,
  /** A token is not believed to live longer: its key may be withdrawn. */
  tokenSecondsMax: 3600,
  /** A token is renewed so long before its end, since clocks and networks are slow. */
  tokenMarginMs: 5000,
  /** Hosts, tokens and entity tags that are remembered, each; beyond it the oldest are forgotten. */
  remembered: 1000,
  /** Progress is told at most so often: ten times a second is more than anybody sees. */
  progressMs: 100,
  /** How long a connection waits for its next request. */
  keepAliveMs: 15_000,
  /** A registries.toml, a certificate or a key. */
  fileBytes: 2 ** 20,
} as const;

export type RegistryLimits = { readonly [Name in keyof typeof REGISTRY_LIMITS]: number };
