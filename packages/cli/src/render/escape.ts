/**
 * Text of a guest or an image for a terminal: control characters, line separators and the marks that turn the
 * reading direction become visible escapes, so that it can neither move the cursor nor pose as another line.
 */
// eslint-disable-next-line no-control-regex
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu;

const NAMED: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

const escapeOne = (char: string): string => {
  const code = char.codePointAt(0) ?? 0;
  return NAMED[char] ?? (code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16)}`);
};

export const escapeControl = (text: string): string => text.replace(UNSAFE, escapeOne);
