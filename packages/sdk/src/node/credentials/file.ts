import { open } from "node:fs/promises";
import { errnoOf, KilnError } from "@kiln/protocol/errors";
import type { RegistryCredential } from "@kiln/protocol";
import { CREDENTIAL_LIMITS } from "./limits.ts";
import { normalKey } from "./keys.ts";

/** A file of docker or podman, its keys in one form. */
export interface CredentialFile {
  readonly path: string;
  readonly credentials: ReadonlyMap<string, RegistryCredential>;
  /** Names of helpers, by registry. */
  readonly helpers: ReadonlyMap<string, string>;
  /** The helper for all other registries. */
  readonly store: string | null;
}

/** No message and no cause quotes the file: a parser's own words would. */
const invalid = (path: string, what: string): KilnError =>
  new KilnError("REGISTRY_CREDENTIALS_INVALID", `${path}: ${what}`, { object: path });

/** null where there is no such file. Throws REGISTRY_CREDENTIALS_INVALID. */
export const readCredentialFile = async (path: string): Promise<CredentialFile | null> => {
  const text = await readText(path);
  if (text === null) return null;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw invalid(path, "it is not JSON"); // the parser's message quotes what it read
  }
  return parseFile(path, value);
};

const readText = async (path: string): Promise<string | null> => {
  try {
    await using file = await open(path, "r");
    if (!(await file.stat()).isFile()) throw invalid(path, "it is not a file");
    const buffer = Buffer.alloc(CREDENTIAL_LIMITS.fileBytes + 1);
    const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
    if (bytesRead > CREDENTIAL_LIMITS.fileBytes) throw invalid(path, `it is longer than ${CREDENTIAL_LIMITS.fileBytes} bytes`);
    return buffer.toString("utf8", 0, bytesRead);
  } catch (error) {
    if (error instanceof KilnError) throw error;
    const errno = errnoOf(error);
    if (errno === "ENOENT" || errno === "ENOTDIR") return null;
    throw invalid(path, `it cannot be read (${errno ?? "unknown error"})`);
  }
};

type Fields = Readonly<Record<string, unknown>>;

const isFields = (value: unknown): value is Fields => typeof value === "object" && value !== null && !Array.isArray(value);

const parseFile = (path: string, value: unknown): CredentialFile => {
  if (!isFields(value)) throw invalid(path, "it is not a JSON object");
  const section = (name: string): Fields => {
    const found = value[name] ?? {};
    if (!isFields(found)) throw invalid(path, `its ${name} is not an object`);
    return found;
  };
  const credentials = new Map<string, RegistryCredential>();
  for (const [key, entry] of Object.entries(section("auths"))) {
    const credential = parseEntry(entry, (what) => invalid(path, `its entry for ${JSON.stringify(key.slice(0, 300))} ${what}`));
    if (credential !== null && !credentials.has(normalKey(key))) credentials.set(normalKey(key), credential);
  }
  const helpers = new Map<string, string>();
  for (const [key, name] of Object.entries(section("credHelpers"))) {
    if (typeof name !== "string") throw invalid(path, `its helper for ${JSON.stringify(key.slice(0, 300))} is not a name`);
    if (name !== "") helpers.set(normalKey(key), name);
  }
  const store = value["credsStore"] ?? "";
  if (typeof store !== "string") throw invalid(path, "its credsStore is not a name");
  return { path, credentials, helpers, store: store === "" ? null : store };
};

/** null for an entry that says nothing: docker leaves such beside a store. */
const parseEntry = (entry: unknown, complaint: (what: string) => KilnError): RegistryCredential | null => {
  if (!isFields(entry)) throw complaint("is not an object");
  const text = (name: string): string => {
    const value = entry[name] ?? "";
    if (typeof value !== "string") throw complaint(`has a ${name} that is not a string`);
    return value;
  };
  if (text("identitytoken") !== "") return { identityToken: text("identitytoken") };
  if (text("registrytoken") !== "") return { registryToken: text("registrytoken") };
  if (text("auth") !== "") return parseBasic(text("auth"), complaint);
  const [username, password] = [text("username"), text("password")];
  return username === "" && password === "" ? null : { username, password };
};

/** base64 of `username:password`; old tools padded the password with zero bytes. */
const parseBasic = (auth: string, complaint: (what: string) => KilnError): RegistryCredential => {
  const isBase64 = /^[A-Za-z0-9+/_-]+={0,2}$/.test(auth.trim());
  const decoded = isBase64 ? Buffer.from(auth.trim(), "base64").toString("utf8") : "";
  const colon = decoded.indexOf(":");
  if (colon < 1) throw complaint("has an auth that is not base64 of username:password");
  // eslint-disable-next-line no-control-regex
  return { username: decoded.slice(0, colon), password: decoded.slice(colon + 1).replace(/\u0000+$/, "") };
};
