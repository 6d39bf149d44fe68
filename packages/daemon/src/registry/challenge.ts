/** RFC 9110, 11.3 and 11.6.1: what a WWW-Authenticate header asks for. */
export interface Challenge {
  /** In lower case. */
  readonly scheme: string;
  /** By their names in lower case; empty where the scheme came with a token68. */
  readonly params: ReadonlyMap<string, string>;
}

/** More of either is nobody's header. */
const CHALLENGES = 16;
const PARAMS = 32;

const TOKEN = /[!#$%&'*+\-.^_`|~0-9A-Za-z]+/y;
const TOKEN68 = /[A-Za-z0-9\-._~+/]+=*(?=[ \t]*(?:,|$))/y;
const QUOTED = /"((?:[^"\\]|\\.)*)"/sy;
const SPACE = /[ \t]*/y;
const SEPARATORS = /[ \t,]*/y;

/** The challenges of all lines in their order; what does not follow the grammar ends the line that it stands in. */
export const parseChallenges = (header: string | readonly string[] | undefined): readonly Challenge[] => {
  const lines = header === undefined ? [] : typeof header === "string" ? [header] : header;
  return lines.flatMap((line) => new HeaderReader(line).challenges()).slice(0, CHALLENGES);
};

class HeaderReader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  challenges(): readonly Challenge[] {
    const found: Challenge[] = [];
    while (found.length < CHALLENGES) {
      this.#take(SEPARATORS);
      const scheme = this.#take(TOKEN);
      if (scheme === null) return found;
      const hasSpace = (this.#take(SPACE) ?? "") !== "";
      // a parameter without a scheme before it: the rest of the line cannot be told apart
      if (this.#text[this.#at] === "=") return found;
      found.push({ scheme: scheme.toLowerCase(), params: hasSpace && this.#take(TOKEN68) === null ? this.#params() : new Map() });
    }
    return found;
  }

  /** Up to the next challenge, which begins as a parameter does, but for the `=`. */
  #params(): ReadonlyMap<string, string> {
    const params = new Map<string, string>();
    while (params.size < PARAMS) {
      const start = this.#at;
      this.#take(SEPARATORS);
      const name = this.#take(TOKEN);
      this.#take(SPACE);
      if (name === null || this.#text[this.#at] !== "=") {
        this.#at = start;
        return params;
      }
      this.#at += 1;
      this.#take(SPACE);
      const value = this.#value();
      if (value === null) {
        this.#at = this.#text.length;
        return params;
      }
      if (!params.has(name.toLowerCase())) params.set(name.toLowerCase(), value);
    }
    return params;
  }

  #value(): string | null {
    QUOTED.lastIndex = this.#at;
    const quoted = QUOTED.exec(this.#text);
    if (quoted === null) return this.#take(TOKEN);
    this.#at = QUOTED.lastIndex;
    return (quoted[1] ?? "").replace(/\\(.)/gs, "$1");
  }

  #take(pattern: RegExp): string | null {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (match === null) return null;
    this.#at = pattern.lastIndex;
    return match[0];
  }
}
