import { BlockList, isIP } from "node:net";
import { isLoopbackName } from "./addresses.ts";
import { ExchangeError } from "./exchange-error.ts";

type Environment = Readonly<Record<string, string | undefined>>;

const valueOf = (env: Environment, name: string): string | null => {
  const value = env[name.toLowerCase()] ?? env[name];
  return value === undefined || value === "" ? null : value;
};

/**
 * The proxy for an address, by HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, in lower case first, as curl and Go do; null for
 * none. The loopback is never proxied: another machine's loopback is not this one's. Throws ExchangeError
 * REGISTRY_UNREACHABLE for a value that is no address of a proxy.
 */
export const proxyFor = (url: URL, env: Environment): string | null => {
  if (isLoopbackName(url.hostname)) return null;
  const name = url.protocol === "https:" ? "HTTPS_PROXY" : "HTTP_PROXY";
  const value = valueOf(env, name) ?? valueOf(env, "ALL_PROXY");
  if (value === null || isExempt(url, valueOf(env, "NO_PROXY") ?? "")) return null;
  const text = value.includes("://") ? value : `http://${value}`;
  if (!URL.canParse(text) || !/^(?:https?|socks5?):$/.test(new URL(text).protocol)) {
    // the value may hold a password
    throw new ExchangeError("REGISTRY_UNREACHABLE", `the environment's ${name} or ALL_PROXY is no address of a proxy`, {
      hint: "correct the environment in which the daemon was started",
    });
  }
  return text;
};

/**
 * NO_PROXY: names and addresses separated by commas or spaces. `example.com` and `.example.com` mean the domain and all
 * in it, `host:port` one port, `10.0.0.0/8` a network, `*` everything.
 */
const isExempt = (url: URL, noProxy: string): boolean => {
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "");
  const port = url.port === "" ? (url.protocol === "https:" ? "443" : "80") : url.port;
  return noProxy
    .toLowerCase()
    .split(/[\s,]+/)
    .some((entry) => entry !== "" && matches(entry, host, port));
};

const matches = (entry: string, host: string, port: string): boolean => {
  if (entry === "*") return true;
  if (entry.includes("/")) return isInNetwork(entry, host);
  const [, bracketed, named, wantedPort] = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d+))?$/.exec(entry) ?? [];
  const name = bracketed ?? named ?? entry;
  if (wantedPort !== undefined && wantedPort !== port) return false;
  if (isIP(host) !== 0) return name === host;
  const domain = name.replace(/^\*?\.+/, "").replace(/\.$/, "");
  return domain !== "" && (host === domain || host.endsWith(`.${domain}`));
};

const isInNetwork = (entry: string, host: string): boolean => {
  const [network = "", prefix = ""] = entry.split("/");
  const [family, type] = [isIP(network), isIP(network) === 4 ? ("ipv4" as const) : ("ipv6" as const)];
  if (family === 0 || isIP(host) !== family || !/^\d{1,3}$/.test(prefix) || Number(prefix) > (family === 4 ? 32 : 128)) return false;
  const list = new BlockList();
  list.addSubnet(network, Number(prefix), type);
  return list.check(host, type);
};
