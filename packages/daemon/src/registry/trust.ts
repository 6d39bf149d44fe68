import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
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
    client: clientFiles === null ? null : await readClient(clientFiles),
  };
};

const findClient = (settings: HostSettings, found: readonly string[]): { certificate: string; key: string } | null => {
  if (settings.clientCertificate !== null) {
    return { certificate: settings.clientCertificate, key: settings.clientKey ?? settings.clientCertificate };
  }
  const certificate = found.find((file) => file.endsWith(".cert"));
  return certificate === undefined ? null : { certificate, key: certificate.replace(/\.cert$/, ".key") };
};

const readClient = async (files: { readonly certificate: string; readonly key: string }): Promise<NonNullable<Certificates["client"]>> => {
  const [certificate, key] = [await readCertificate(files.certificate), await readPem(files.key)];
  const parsed = parseKey(files.key, key);
  if (!new X509Certificate(certificate).checkPrivateKey(parsed)) throw invalid(files.key, `it is not the key of ${files.certificate}`);
  return { certificate, key };
};

const parseKey = (file: string, pem: string): KeyObject => {
  try {
    return createPrivateKey(pem);
  } catch (error) {
    throw invalid(file, "it is no key in PEM", error);
  }
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

const invalid = (file: string, why: string, cause?: unknown): KilnError =>
  new KilnError("REGISTRY_CONFIG_INVALID", `${file}: ${why}`, { cause, object: file });

/** Whom Node and the host trust. Read once: it takes some milliseconds. */
const roots = ((): (() => readonly string[]) => {
  let known: readonly string[] | null = null;
  return () => (known ??= [...new Set([...getCACertificates("default"), ...getCACertificates("system")])]);
})();

/** `ours`: with our certificate too, which nobody but the host itself is shown. */
export const createTrust = ({ authorities, client }: Certificates, options: { readonly ours: boolean }): SecureContext =>
  createSecureContext({
    ca: [...roots(), ...authorities],
    minVersion: "TLSv1.2",
    ...(options.ours && client !== null ? { cert: client.certificate, key: client.key } : {}),
  });
