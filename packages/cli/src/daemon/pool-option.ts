export const POOL_HELP = "guests to keep ready: a number, or N:CPUSxMEMORY, several with commas (default: $KILN_POOL, or none)";

type Environment = Readonly<Record<string, string | undefined>>;

/** What the daemon is started with. */
export const daemonEnvironment = (env: Environment, { pool }: { readonly pool?: string }): Environment =>
  pool === undefined ? env : { ...env, KILN_POOL: pool };
