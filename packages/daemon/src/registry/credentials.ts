import { createHash } from "node:crypto";
import type { RegistryCredential, RegistryCredentials } from "@kiln/protocol";

/** Names that mean docker's registry, in references and in the files of `docker login`. */
const DOCKER_HOSTS = new Set(["docker.io", "index.docker.io", "registry-1.docker.io", "registry.docker.io"]);

/** `https://index.docker.io/v1/` and `docker.io` are one key; podman's keys may go on with a namespace. */
const normalKey = (key: string): string => {
  const bare = key
    .replace(/^https?:\/\//, "")
    .replace(/\/+$/, "")
    .replace(/\/v[12]$/, "");
  const slash = bare.indexOf("/");
  const host = (slash === -1 ? bare : bare.slice(0, slash)).toLowerCase();
  return `${DOCKER_HOSTS.has(host) ? "docker.io" : host}${slash === -1 ? "" : bare.slice(slash)}`;
};

/** The caller's credential for a repository at a host: under the longest key that is it or above it; null for none. */
export const credentialFor = (credentials: RegistryCredentials, host: string, repository: string): RegistryCredential | null => {
  const wanted = `${normalKey(host)}/${repository}/`;
  let best: { readonly length: number; readonly credential: RegistryCredential } | null = null;
  for (const [key, credential] of Object.entries(credentials)) {
    const normal = normalKey(key);
    if (wanted.startsWith(`${normal}/`) && normal.length > (best?.length ?? -1)) best = { length: normal.length, credential };
  }
  return best?.credential ?? null;
};

/** Who asks, so that nobody is served with what was granted to somebody else. Holds no secret. */
export const identityOf = (credential: RegistryCredential | null): string =>
  credential === null ? "" : createHash("sha256").update(JSON.stringify(credential)).digest("hex");

export const basicAuthorization = ({ username, password }: { username: string; password: string }): string =>
  `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
