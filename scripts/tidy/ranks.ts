import { posix } from "node:path";
import { isTestPath, type Finding, type Module } from "./source.ts";

/** A place in the house: a package, or a folder of the daemon. `order` is the position within the rank, for rank 2. */
interface Place {
  readonly name: string;
  readonly rank: number;
  readonly order?: number;
  /** The places and ranks it may import from, itself included without saying so. */
  readonly mayImport: (other: Place) => boolean;
  /** Whether it may touch the operating system: files, processes, sockets. */
  readonly touchesSystem: boolean;
  /** Whether it must run in a browser: no `node:` module at all. */
  readonly webSafe?: boolean;
  readonly libraries: readonly string[];
}

const DOMAIN = [["config"], ["images", "kernels"], ["templates"], ["vms"], ["snapshots"], ["nodes"]] as const;
const ADAPTERS = ["vmm/qemu", "vmm/firecracker", "vmm/fake", "agent", "forward", "content", "registry", "store", "network", "cluster"];

const named =
  (...names: readonly string[]) =>
  (other: Place) =>
    names.includes(other.name);
const upTo =
  (rank: number, ...also: readonly number[]) =>
  (other: Place) =>
    (other.rank >= 0 && other.rank <= rank) || also.includes(other.rank);

/** The table of ARCHITECTURE.md, in its order. A rank of -1 is outside the daemon's order. */
const PLACES: readonly Place[] = [
  { name: "std", rank: 0, mayImport: named(), touchesSystem: false, webSafe: true, libraries: [] },
  { name: "std/node", rank: 0, mayImport: named("std"), touchesSystem: true, libraries: [] },
  { name: "protocol", rank: 1, mayImport: named("std"), touchesSystem: false, webSafe: true, libraries: ["zod"] },
  { name: "formats", rank: 1, mayImport: named("std"), touchesSystem: false, libraries: [] },
  ...DOMAIN.flatMap((names, order) =>
    names.map((name) => ({
      name,
      rank: 2,
      order,
      mayImport: (other: Place) => upTo(1)(other) || (other.rank === 2 && (other.order ?? 0) < order),
      touchesSystem: false,
      libraries: ["zod"],
    })),
  ),
  { name: "host", rank: 3, mayImport: upTo(1), touchesSystem: true, libraries: [] },
  // what all drivers share: limits, and the suite that they pass
  { name: "vmm", rank: 4, mayImport: upTo(3), touchesSystem: true, libraries: [] },
  ...ADAPTERS.map((name) => ({
    name,
    rank: 4,
    mayImport: (other: Place) => upTo(3)(other) || (name.startsWith("vmm/") && other.name === "vmm"),
    touchesSystem: true,
    libraries: name === "registry" ? ["zod", "undici", "smol-toml"] : ["zod"],
  })),
  { name: "pipeline", rank: 5, mayImport: upTo(2), touchesSystem: false, libraries: [] },
  { name: "operations", rank: 6, mayImport: upTo(2, 5), touchesSystem: false, libraries: [] },
  { name: "http", rank: 7, mayImport: upTo(2, 6), touchesSystem: false, libraries: ["hono", "@hono/node-server", "ws", "zod"] },
  { name: "main", rank: 8, mayImport: upTo(8), touchesSystem: true, libraries: ["@hono/node-server", "hono", "pino", "ws"] },
  { name: "sdk", rank: -1, mayImport: named("protocol", "std"), touchesSystem: false, webSafe: true, libraries: [] },
  { name: "sdk/node", rank: -1, mayImport: named("protocol", "std", "std/node", "sdk"), touchesSystem: true, libraries: ["ws"] },
  {
    name: "cli",
    rank: -1,
    mayImport: named("sdk", "sdk/node", "protocol", "std", "std/node", "formats"),
    touchesSystem: true,
    libraries: ["commander", "log-update"],
  },
  { name: "web", rank: -1, mayImport: named("sdk", "protocol", "std"), touchesSystem: false, webSafe: true, libraries: [] },
];

/** Node's modules that reach the operating system. A codec may use the others. */
const SYSTEM_MODULES = new Set(
  "fs fs/promises child_process net dgram tls http https http2 os sqlite worker_threads cluster dns dns/promises readline readline/promises repl tty inspector v8 vm".split(
    " ",
  ),
);
/** The HTTP layer speaks about requests and sockets, but opens none. */
const TYPES_OF_HTTP = new Set(["node:http", "node:net", "node:stream"]);

const PLACE_BY_NAME = new Map(PLACES.map((place) => [place.name, place]));

/** The name of the place of a file; null outside the packages. */
export const placeNameOf = (path: string): string | null => {
  const [, pkg, , ...rest] = path.split("/");
  if (!path.startsWith("packages/") || pkg === undefined) return null;
  if (pkg !== "daemon") return (pkg === "std" || pkg === "sdk") && rest[0] === "node" ? `${pkg}/node` : pkg;
  const [folder = "", inner = ""] = rest;
  if (rest.length === 1) return "main";
  return folder === "vmm" && rest.length > 2 ? `vmm/${inner}` : folder;
};

/** Whether the file stands where the operating system may be touched. */
export const mayTouchSystem = (path: string): boolean => PLACE_BY_NAME.get(placeNameOf(path) ?? "")?.touchesSystem ?? false;

/** The place that a specifier leads to, "node:…" and libraries as they are. */
const targetOf = (from: string, specifier: string): string => {
  if (specifier.startsWith(".")) return placeNameOf(posix.join(posix.dirname(from), specifier)) ?? specifier;
  const own = /^@kiln\/([^/]+)(\/node)?/.exec(specifier);
  return own === null ? specifier : `${own[1]}${own[2] ?? ""}`;
};

const libraryOf = (specifier: string): string =>
  specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");

const complaintAboutNode = (place: Place, specifier: string): string | null => {
  if (place.webSafe)
    return `${place.name} runs in a browser too: take what you need from ${specifier} as an argument, or move to ${place.name}/node`;
  if (place.touchesSystem || !SYSTEM_MODULES.has(specifier.slice("node:".length))) return null;
  if (place.name === "http" && TYPES_OF_HTTP.has(specifier)) return null;
  return `only std/node, host, adapters and main use ${specifier}: declare a port in ${place.name} and inject it in main`;
};

const complaintAbout = (place: Place, from: string, specifier: string): string | null => {
  if (specifier.startsWith("node:")) return complaintAboutNode(place, specifier);
  const target = targetOf(from, specifier);
  const other = PLACE_BY_NAME.get(target);
  if (other === undefined) {
    return place.libraries.includes(libraryOf(specifier))
      ? null
      : `${place.name} does not use ${specifier}: see the libraries in scripts/tidy/ranks.ts`;
  }
  if (specifier.startsWith(".") && from.split("/")[1] !== posix.join(posix.dirname(from), specifier).split("/")[1]) {
    return `packages meet at their names: import from "@kiln/${target}"`;
  }
  if (other.name === place.name || place.mayImport(other)) return null;
  const adapters = place.rank === 4 && other.rank === 4;
  return adapters
    ? `adapters are strangers to each other: move what both need below them (host, a port), or join them in main`
    : `${place.name} (rank ${place.rank}) may not import ${other.name} (rank ${other.rank}): declare a port here and let main inject it`;
};

/** DESIGN's table of who may import whom. Tests, fixtures and contract suites may import anything, and nothing imports them. */
export const checkRanks = (module: Module): Finding[] => {
  const name = placeNameOf(module.path);
  if (name === null || isTestPath(module.path)) return [];
  const at = (offset: number, message: string): Finding => ({ path: module.path, line: module.lineAt(offset), rule: "ranks", message });
  const place = PLACE_BY_NAME.get(name);
  if (place === undefined) return [at(0, `the folder ${name} has no rank: give it one in scripts/tidy/ranks.ts and in ARCHITECTURE.md`)];
  return module.imports.flatMap(({ specifier, offset }) => {
    if (isTestPath(specifier)) return [at(offset, `${specifier} belongs to tests: move what is needed into a file of its own`)];
    const message = complaintAbout(place, module.path, specifier);
    return message === null ? [] : [at(offset, message)];
  });
};
