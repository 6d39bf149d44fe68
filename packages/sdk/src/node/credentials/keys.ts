/** How docker's files call Docker Hub. */
const HUB_KEY = "https://index.docker.io/v1/";
const HUB = "docker.io";
const HUB_HOSTS = new Set([HUB, "index.docker.io", "registry-1.docker.io"]);

const withoutSlash = (text: string): string => text.replace(/\/+$/, "");

/**
 * One name for a registry or a namespace in it, whatever form a file has it in. What has a scheme is a whole registry
 * (docker's old keys end in /v1/); what has none may be podman's `host/namespace`.
 */
export const normalKey = (key: string): string => {
  const [, scheme = "", rest = ""] = /^(https?:\/\/)?(.*)$/s.exec(key) ?? [];
  const path = withoutSlash(rest);
  const [host = "", ...names] = path.split("/");
  const isLegacy = scheme !== "" || (names.length === 1 && /^v[12]$/.test(names[0] ?? ""));
  const known = HUB_HOSTS.has(host) ? HUB : host;
  return isLegacy || names.length === 0 ? known : [known, ...names].join("/");
};

/** What may stand for an image, the most specific first: its path from the repository up, then its registry. */
export const keysFor = (image: { readonly domain: string; readonly repository: string }): string[] => {
  const names = image.repository.split("/");
  return [...names.map((_, index) => [image.domain, ...names.slice(0, names.length - index)].join("/")), image.domain];
};

/** What a helper is asked for. */
export const helperKey = (domain: string): string => (domain === HUB ? HUB_KEY : domain);
