import type { RegistryCredential, RegistryCredentials } from "@kiln/protocol";
import { credentialFilePaths, type CredentialSources } from "./credentials/paths.ts";
import { askHelper } from "./credentials/ask-program.ts";
import { readCredentialFile, type CredentialFile } from "./credentials/file.ts";
import { helperKey, keysFor } from "./credentials/keys.ts";

export type { CredentialSources } from "./credentials/paths.ts";

export interface FindCredentials {
  /** Where the image is: its registry, `docker.io` or `host[:port]`, and its path there. */
  readonly image: { readonly domain: string; readonly repository: string };
  readonly from: CredentialSources;
  readonly signal: AbortSignal;
  /** Asked before a helper is run, which may be slow or ask a person: false does without it. */
  readonly isWorthHelper?: (() => Promise<boolean>) | undefined;
}

/**
 * The caller's credentials for the registry of one image, under the registry's name; empty where there are none.
 * They are found as docker and podman find them: the first file that knows the registry counts, and in a file its
 * helper, then its store, then what is written there. Throws REGISTRY_CREDENTIALS_INVALID, which names the file or
 * the helper and nothing that they hold.
 */
export const findRegistryCredentials = async (find: FindCredentials): Promise<RegistryCredentials> => {
  for (const path of credentialFilePaths(find.from)) {
    const file = await readCredentialFile(path);
    const credential = file === null ? null : await findInFile(file, find);
    if (credential !== null) return { [find.image.domain]: credential };
  }
  return {};
};

const findInFile = async (file: CredentialFile, find: FindCredentials): Promise<RegistryCredential | null> => {
  const keys = keysFor(find.image);
  const helper = firstOf(keys, file.helpers) ?? file.store;
  if (helper !== null && (await (find.isWorthHelper?.() ?? true))) {
    const { signal, from, image } = find;
    const found = await askHelper({ name: helper, key: helperKey(image.domain), file: file.path }, { env: from.env, signal });
    if (found !== null) return found;
  }
  return firstOf(keys, file.credentials);
};

const firstOf = <Value>(keys: readonly string[], values: ReadonlyMap<string, Value>): Value | null => {
  for (const key of keys) {
    const value = values.get(key);
    if (value !== undefined) return value;
  }
  return null;
};
