import type { Finding, Source } from "./source.ts";

interface Manifest {
  readonly version?: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

interface Lockfile {
  readonly packages: Readonly<
    Record<
      string,
      {
        readonly resolved?: string;
        readonly integrity?: string;
        readonly link?: boolean;
        readonly hasInstallScript?: boolean;
        readonly os?: readonly string[];
        readonly cpu?: readonly string[];
        readonly libc?: readonly string[];
      }
    >
  >;
}

const lineOf = (source: Source, text: string): number => source.lineAt(Math.max(0, source.text.indexOf(text)));

/** Dependencies are pinned to the digit, and all packages of the workspace carry `version`. */
export const checkManifest = (source: Source, version: string): Finding[] => {
  const manifest = JSON.parse(source.text) as Manifest;
  const at = (line: number, message: string): Finding => ({ path: source.path, line, rule: "manifest", message });
  const dependencies = [manifest.dependencies, manifest.devDependencies, manifest.optionalDependencies].flatMap((one) =>
    Object.entries(one ?? {}),
  );
  const loose = dependencies.filter(([, wanted]) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(wanted));
  return [
    ...loose.map(([name, wanted]) => at(lineOf(source, `"${name}"`), `${name}@${wanted} is a range: pin one version`)),
    ...(manifest.version === version ? [] : [at(1, `has version ${manifest.version}: one version for all packages, ${version}`)]),
  ];
};

/** A lockfile that works with any mirror and runs no code on installation. */
/** Bindings for platforms that Kiln does not run on are listed for npm ci, and never installed. */
const isInstallable = ({ os, cpu, libc }: Lockfile["packages"][string]): boolean =>
  (os?.includes("linux") ?? true) && (cpu?.some((one) => one === "x64" || one === "arm64") ?? true) && (libc?.includes("glibc") ?? true);

export const checkLockfile = (source: Source): Finding[] => {
  const lockfile = JSON.parse(source.text) as Lockfile;
  return Object.entries(lockfile.packages).flatMap(([name, entry]) => {
    const at = (message: string): Finding => ({
      path: source.path,
      line: lineOf(source, `"${name}"`),
      rule: "lockfile",
      message: `${name} ${message}`,
    });
    if (!name.startsWith("node_modules/") || entry.link) return [];
    return [
      ...(entry.resolved?.startsWith("http") ? [at("names a registry host: write the lockfile with the .npmrc of this checkout")] : []),
      ...(entry.integrity === undefined && isInstallable(entry) ? [at("has no integrity: install it again from a registry")] : []),
      ...(entry.hasInstallScript ? [at("runs a script on installation: choose a package that carries what it needs")] : []),
    ];
  });
};
