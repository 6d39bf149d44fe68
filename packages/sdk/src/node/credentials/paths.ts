import { join } from "node:path";

/** The parts of the process that decide where credentials lie. */
export interface CredentialSources {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The user's id; null where the platform has none. */
  readonly uid: number | null;
  readonly userHome: string;
}

/**
 * The files that may hold credentials, in the order of containers-auth.json(5), then docker's. One that
 * REGISTRY_AUTH_FILE names is the only one.
 */
export const credentialFilePaths = ({ env, uid, userHome }: CredentialSources): string[] => {
  const own = nonEmpty(env["REGISTRY_AUTH_FILE"]);
  if (own !== undefined) return [own];
  const runtime = nonEmpty(env["XDG_RUNTIME_DIR"]);
  const rootless = runtime === undefined ? [] : [join(runtime, "containers/auth.json")];
  const system = runtime === undefined && uid !== null ? [`/run/containers/${uid}/auth.json`] : [];
  return [
    ...rootless,
    ...system,
    join(nonEmpty(env["XDG_CONFIG_HOME"]) ?? join(userHome, ".config"), "containers/auth.json"),
    join(nonEmpty(env["DOCKER_CONFIG"]) ?? join(userHome, ".docker"), "config.json"),
  ];
};

const nonEmpty = (text: string | undefined): string | undefined => (text === "" ? undefined : text);
