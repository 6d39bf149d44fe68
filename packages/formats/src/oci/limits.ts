/** What a document may be before it is refused, each with its reason. */
export const OCI_LIMITS = {
  /** The limit that docker's registry has for manifests; no config of a real image comes near it. */
  documentBytes: 4 * 2 ** 20,
  /** OCI documents are six levels deep; the rest is room for fields that nobody knows yet. */
  depth: 32,
  /** Platforms, attestations and tags of one index. */
  indexEntries: 4096,
  layers: 4096,
  /** Entries of one list or map in a config: environment, command, labels, ports. */
  configEntries: 8192,
  /** Letters of one string that names something: a media type, a digest, a platform. */
  nameLength: 1024,
} as const;
