/**
 * The host's own addresses, as prefixes: what the kernel of this text of /proc/net/fib_trie takes as its own, on
 * interfaces without a link too, and the ranges that somebody has routed to it. Loopback is left out.
 */
export const parseLocalPrefixes = (fibTrie: string): ReadonlySet<string> => {
  const prefixes = new Set<string>();
  let address = "";
  for (const line of fibTrie.split("\n")) {
    address = /^\s*\|-- (\d+\.\d+\.\d+\.\d+)$/.exec(line)?.[1] ?? address;
    const bits = /^\s*\/(\d+) \S+ LOCAL\b/.exec(line)?.[1];
    if (bits !== undefined && !address.startsWith("127.")) prefixes.add(`${address}/${bits}`);
  }
  return prefixes;
};

/** The interface of the default route in this text of /proc/net/route; null where there is none. */
export const parseDefaultInterface = (routes: string): string | null => {
  const up = 0x1;
  for (const line of routes.split("\n").slice(1)) {
    const [name, destination, , flags = "0", , , , mask] = line.trim().split(/\s+/);
    if (name !== undefined && destination === "00000000" && mask === "00000000" && (Number.parseInt(flags, 16) & up) !== 0) return name;
  }
  return null;
};
