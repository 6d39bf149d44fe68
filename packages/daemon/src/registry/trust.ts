import { X509Certificate } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { createSecureContext, getCACertificates, type SecureContext } from "node:tls";
import { KilnError } from "@kiln/protocol";
import { hasCode } from "@kiln/std/node";
import type { HostSettings } from "./registry-config.ts";

/** The certificates for one host beside those that everybody trusts. PEM. */
export interface Certificates {
  readonly authorities: readonly string[];
  /** How we show who we are. */
  readonly client: { readonly certificate: string; readonly key: string } | null;
}

/**
 * The settings' own files, and those that docker and podman keep for the host: `*.crt` are authorities, `NAME.cert` with
 * `NAME.key` is ours. Throws REGISTRY_CONFIG_INVALID with the file.
 */
export const readCertificates = async (
  names: readonly string[],
  settings: HostSettings,
  directories: readonly string[],
): Promise<Certificates> => {
  const files = [...new Set(names)].flatMap((name) => directories.map((directory) => join(directory, name)));
  const found = (await Promise.all(files.map(listFiles))).flat();
  const authorityFiles = [...(settings.ca === null ? [] : [settings.ca]), ...found.filter((file) => file.endsWith(".crt"))];
  const clientFiles = findClient(settings, found);
  return {
    authorities: await Promise.all(authorityFiles.map(readCertificate)),
    client:
      clientFiles === null ? null : { certificate: await readCertificate(clientFiles.certificate), key: await readPem(clientFiles.key) },
  };
};

const findClient = (settings: HostSettings, found: readonly string[]): { certificate: string; key: string } | null => {
  if (settings.clientCertificate !== null) {
    return { certificate: settings.clientCertificate, key: settings.clientKey ?? settings.clientCertificate };
  }
  const certificate = found.find((file) => file.endsWith(".cert"));
  return certificate === undefined ? null : { certificate, key: certificate.replace(/\.cert$/, ".key") };
};

const listFiles = async (directory: string): Promise<readonly string[]> => {
  try {
    return (await readdir(directory)).sort().map((name) => join(directory, name));
  } catch (error) {
    if (hasCode(error, "ENOENT") || hasCode(error, "ENOTDIR") || hasCode(error, "EACCES")) return [];
    throw error;
  }
};

const readPem = async (file: string): Promise<string> => {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw invalid(file, "it cannot be read", error);
  }
};

const readCertificate = async (file: string): Promise<string> => {
  const pem = await readPem(file);
  try {
    void new X509Certificate(pem);
  } catch (error) {
    throw invalid(file, "it is no certificate in PEM", error);
  }
  return pem;
};

const invalid = (file: string, why: string, cause: unknown): KilnError =>
  new KilnError("REGISTRY_CONFIG_INVALID", `${file}: ${why}`, { cause, object: file });

/** Whom Node and the host trust. Read once: it takes some milliseconds. */
const roots = ((): (() => readonly string[]) => {
  let known: readonly string[] | null = null;
  return () => (known ??= [...new Set([...getCACertificates("default"), ...getCACertificates("system")])]);
})();

/** `ours`: with our certificate too, which nobody but the host itself is shown. Throws REGISTRY_CONFIG_INVALID for a key that does not fit. */
export const createTrust = ({ authorities, client }: Certificates, options: { readonly ours: boolean }): SecureContext => {
  const own = options.ours && client !== null ? { cert: client.certificate, key: client.key } : {};
  try {
    return createSecureContext({ ca: [...roots(), ...authorities], minVersion: "TLSv1.2", ...own });
  } catch (error) {
    throw new KilnError("REGISTRY_CONFIG_INVALID", "the client certificate and its key do not fit together", { cause: error });
  }
};
