import type { REGISTRY_AUTH_HEADER, RegistryCredentials } from "@kiln/protocol";

/** The protocol's word, checked by the compiler: the value itself would load every schema. */
const HEADER: typeof REGISTRY_AUTH_HEADER = "kiln-registry-auth";

const base64url = (text: string): string =>
  btoa(Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join(""))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replace(/=+$/, "");

/** The header in which credentials travel beside a request that pulls; nothing where there are none. */
export const registryAuthHeaders = (credentials: RegistryCredentials | undefined): Record<string, string> =>
  credentials === undefined || Object.keys(credentials).length === 0 ? {} : { [HEADER]: base64url(JSON.stringify(credentials)) };
