import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { KilnError } from "@kiln/protocol";
import { hasCode } from "@kiln/std/node";
import { parse, TomlError } from "smol-toml";
import { z } from "zod";
import { REGISTRY_LIMITS } from "./limits.ts";

/** What is known of one host. */
export interface HostSettings {
  /** `HOST[:PORT][/NAMESPACE]`, asked in this order before the registry itself. */
  readonly mirrors: readonly string[];
  readonly plainHttp: boolean;
  /** Nothing is fetched from it. */
  readonly blocked: boolean;
  /** `HOST` or `HOST:PORT` that it may point to wherever they are. */
  readonly redirects: readonly string[];
  /** PEM files. */
  readonly ca: string | null;
  readonly clientCertificate: string | null;
  readonly clientKey: string | null;
}

/** By host as it stands in references, in lower case: `docker.io`, `host:port`. */
export type Registries = ReadonlyMap<string, HostSettings>;

export interface RegistryConfig {
  /** Where docker and podman keep certificates: `DIRECTORY/HOST/*.crt`, `*.cert`, `*.key`. */
  readonly certificateDirs: readonly string[];
  /**
   * Read anew each time, so that an edit needs no restart and a damaged file harms nobody but who needs it.
   * Throws REGISTRY_CONFIG_INVALID with the file and the line.
   */
  read(): Promise<Registries>;
}

const CERTIFICATE_DIRS = ["/etc/docker/certs.d", "/etc/containers/certs.d"];

/** The settings of registries.toml files. One that is missing says nothing; for one registry the last file that names it counts. */
export const loadRegistryConfig = (
  paths: readonly string[],
  options: { readonly certificateDirs?: readonly string[] } = {},
): RegistryConfig => ({
  certificateDirs: options.certificateDirs ?? CERTIFICATE_DIRS,
  read: async () => new Map((await Promise.all(paths.map(readRegistries))).flatMap((registries) => [...registries])),
});

/** Names of hosts are the same in capitals. */
export const settingsOf = (registries: Registries, name: string): HostSettings => registries.get(name.toLowerCase()) ?? NO_SETTINGS;

export const NO_SETTINGS: HostSettings = {
  mirrors: [],
  plainHttp: false,
  blocked: false,
  redirects: [],
  ca: null,
  clientCertificate: null,
  clientKey: null,
};

const HOST = /^(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?$/;
const host = z.string().max(300).regex(HOST, "this is no HOST[:PORT]").toLowerCase();
const mirror = z
  .string()
  .max(600)
  .refine(
    (text) => HOST.test(text.split("/", 1)[0] ?? "") && /^[^/]*(?:\/[a-z0-9._-]+)*$/.test(text),
    "a mirror is HOST[:PORT][/NAMESPACE]",
  );
const path = z.string().min(1).max(4096);

const registriesFile = z.strictObject({
  registry: z
    .record(
      host,
      z.strictObject({
        mirrors: z.array(mirror).max(32).default([]),
        "plain-http": z.boolean().default(false),
        blocked: z.boolean().default(false),
        redirects: z.array(host).max(256).default([]),
        ca: path.nullable().default(null),
        "client-certificate": path.nullable().default(null),
        "client-key": path.nullable().default(null),
      }),
    )
    .default({}),
});

const readRegistries = async (file: string): Promise<Registries> => {
  const text = await readText(file);
  if (text === null) return new Map();
  const parsed = registriesFile.safeParse(parseToml(file, text));
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw configError({ file, line: lineOf(text, issue?.path ?? []), why: issueText(issue) });
  }
  const fileNamed = (name: string | null): string | null => (name === null ? null : resolve(dirname(file), name));
  return new Map(
    Object.entries(parsed.data.registry).map(([name, settings]) => [
      name.toLowerCase(),
      {
        mirrors: settings.mirrors,
        plainHttp: settings["plain-http"],
        blocked: settings.blocked,
        redirects: settings.redirects,
        ca: fileNamed(settings.ca),
        clientCertificate: fileNamed(settings["client-certificate"]),
        clientKey: fileNamed(settings["client-key"]),
      },
    ]),
  );
};

interface Complaint {
  readonly file: string;
  readonly line?: number;
  readonly why: string;
  readonly cause?: unknown;
}

const readText = async (file: string): Promise<string | null> => {
  try {
    const bytes = await readFile(file);
    if (bytes.length > REGISTRY_LIMITS.fileBytes) throw configError({ file, why: `it is larger than ${REGISTRY_LIMITS.fileBytes} bytes` });
    return bytes.toString();
  } catch (error) {
    if (hasCode(error, "ENOENT") || hasCode(error, "ENOTDIR")) return null;
    if (error instanceof KilnError) throw error;
    throw configError({ file, why: "it cannot be read", cause: error });
  }
};

const parseToml = (file: string, text: string): unknown => {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const [first = ""] = error.message.split("\n");
    throw configError({ file, line: error.line, why: first.replace(/^Invalid TOML document: /, ""), cause: error });
  }
};

type Issue = z.core.$ZodIssue;

const issueText = (issue: Issue | undefined): string => {
  if (issue === undefined) return "it is not understood";
  const where = issue.path.map((part) => (/^[a-zA-Z-]+$/.test(String(part)) ? String(part) : JSON.stringify(part))).join(".");
  const message = issue.code === "invalid_key" ? (issue.issues[0]?.message ?? issue.message) : issue.message;
  return where === "" ? message : `${where}: ${message}`;
};

/** The parser keeps no positions: the last line that names each part of the path in its turn. 0-based paths give line 1. */
const lineOf = (text: string, issuePath: readonly PropertyKey[]): number => {
  const lines = text.split("\n");
  let at = 0;
  for (const part of issuePath) {
    const next = lines.findIndex((line, index) => index >= at && !line.trimStart().startsWith("#") && line.includes(String(part)));
    if (next !== -1 && typeof part === "string") at = next;
  }
  return at + 1;
};

const configError = ({ file, line, why, cause }: Complaint): KilnError =>
  new KilnError("REGISTRY_CONFIG_INVALID", `${file}${line === undefined ? "" : `, line ${line}`}: ${why}`, { cause, object: file });
