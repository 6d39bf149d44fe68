import type { KilnEvent } from "@kiln/protocol";
import { escapeControl } from "./escape.ts";
import { shortDigest } from "./units.ts";

/** A value of an event in a word or a few; what is nested is JSON. */
const textOf = (value: unknown): string => {
  if (typeof value === "string" && /^(sha256:)?[0-9a-f]{64}$/.test(value)) return shortDigest(value).slice(0, 12);
  if (typeof value === "string") return /[\s,()=]/.test(value) ? JSON.stringify(value) : value;
  if (isError(value)) return JSON.stringify(value.detail);
  return JSON.stringify(value);
};

const isKey = (text: string): boolean => /^[0-9a-f]{64}$/.test(text);

const isError = (value: unknown): value is { readonly detail: string } =>
  typeof value === "object" && value !== null && "detail" in value && typeof value.detail === "string";

/** What says nothing in a line: what is not there, and lists, which `--json` has. */
const isShown = (value: unknown): boolean => value !== null && value !== undefined && !Array.isArray(value);

/** A home that was made anew, or came back from a copy, has not got as far as its clients. */
const describeGap = (seq: number, since: unknown): string =>
  typeof since === "number" && since > seq
    ? `there is no event number ${since} here; what follows is behind number ${seq}`
    : `events before number ${seq + 1} are forgotten`;

/** docker's line: time, what happened, to what, and the details in brackets. */
export const renderEvent = ({ time, type, subject, data, seq }: KilnEvent): string => {
  if (type === "truncated") return `${time} truncated: ${describeGap(seq, data["since"])}`;
  const details = Object.entries(data).filter(([, value]) => isShown(value));
  const words = details.map(([name, value]) => `${name}=${textOf(value)}`).join(", ");
  return escapeControl(`${time} ${type} ${isKey(subject) ? textOf(subject) : subject}${words === "" ? "" : ` (${words})`}`);
};
