const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

/** For example "512 MiB", "1.5 GiB". */
export const formatBytes = (bytes: number): string => {
  const power = Math.min(UNITS.length - 1, bytes < 1 ? 0 : Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 2 ** (10 * power);
  return `${Number.isInteger(value) || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[power] ?? "B"}`;
};

/** For example "1 CPU and 512 MiB". */
export const formatShape = ({ cpus, memoryBytes }: { readonly cpus: number; readonly memoryBytes: number }): string =>
  `${cpus} CPU${cpus === 1 ? "" : "s"} and ${formatBytes(memoryBytes)}`;

const SPANS = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
  ["second", 1],
] as const;

/** For example "3 minutes", "1 hour"; under a second "a moment". */
export const formatDuration = (ms: number): string => {
  const seconds = ms / 1000;
  for (const [unit, size] of SPANS) {
    const count = Math.floor(seconds / size);
    if (count >= 1) return `${count} ${unit}${count === 1 ? "" : "s"}`;
  }
  return "a moment";
};

/** The time since an RFC 3339 moment, or "-". */
export const formatAge = (time: string | null, nowMs: number): string =>
  time === null ? "-" : `${formatDuration(nowMs - Date.parse(time))} ago`;

/** docker's twelve digits of a digest; anything else as it is. */
export const shortDigest = (digest: string): string => {
  const [, hex] = /^sha256:([0-9a-f]{64})$/.exec(digest) ?? [];
  return hex === undefined ? digest : hex.slice(0, 12);
};

/** For example "850 ms", "1.2 s", "3 minutes". */
export const formatMs = (ms: number): string => {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  return ms < 60_000 ? `${(ms / 1_000).toFixed(1)} s` : formatDuration(ms);
};
