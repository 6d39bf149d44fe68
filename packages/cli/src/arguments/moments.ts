import { KilnError } from "@kiln/protocol/errors";

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const DURATION = /^(\d+(\.\d+)?(ms|[smhd]))+$/;

/** Milliseconds of "90s", "1h30m", "2d"; null for what is no duration. */
export const parseDuration = (text: string): number | null => {
  if (!DURATION.test(text)) return null;
  const parts = text.matchAll(/(\d+(?:\.\d+)?)(ms|[smhd])/g);
  return [...parts].reduce((sum, [, count, unit]) => sum + Number(count) * (UNIT_MS[unit ?? ""] ?? 0), 0);
};

/** A moment as docker's: a time (RFC 3339), or how long ago it was. Throws USAGE. */
export const parseMoment = (text: string, option: string, nowMs: number): Date => {
  const agoMs = parseDuration(text);
  const date = agoMs === null ? new Date(text) : new Date(nowMs - agoMs);
  const isTime = agoMs !== null || /^\d{4}-\d{2}-\d{2}/.test(text);
  if (isTime && !Number.isNaN(date.getTime())) return date;
  throw new KilnError("USAGE", `${option} ${text}: neither a time (2026-11-21T10:00:00Z) nor how long ago it was (90s, 10m, 1h30m, 2d)`);
};
