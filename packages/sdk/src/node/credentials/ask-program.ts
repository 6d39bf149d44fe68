import type { RegistryCredential } from "@kiln/protocol";
import { KilnError } from "@kiln/protocol/errors";
import { CREDENTIAL_LIMITS } from "./limits.ts";

export interface HelperQuestion {
  /** `docker-credential-NAME` is run. */
  readonly name: string;
  /** What it is asked for. */
  readonly key: string;
  /** The file that names it, for messages. */
  readonly file: string;
}

interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
  readonly timeoutMs?: number;
}

/** A word that stays below PATH. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;
/** What every helper says of a registry that it does not know: docker-credential-helpers, credentials/error.go. */
const NOT_FOUND = "credentials not found";
/** A username that says that the secret is an identity token. */
const TOKEN_USER = "<token>";

/**
 * Asks a credential helper by docker's protocol: the key on stdin, JSON on stdout. null where it knows nothing.
 * Throws REGISTRY_CREDENTIALS_INVALID, without what it answered.
 */
export const askHelper = async (question: HelperQuestion, around: Surroundings): Promise<RegistryCredential | null> => {
  const { name, key, file } = question;
  if (!NAME.test(name)) throw new KilnError("REGISTRY_CREDENTIALS_INVALID", `${file}: it names a helper that is no name`, { object: file });
  const answer = await runHelper(question, around);
  if (answer === null) return null;
  const broken = () =>
    new KilnError("REGISTRY_CREDENTIALS_INVALID", `docker-credential-${name}, which ${file} names, gave no credentials for ${key}`, {
      object: file,
    });
  return parseAnswer(answer, broken);
};

const runHelper = async ({ name, key, file }: HelperQuestion, around: Surroundings): Promise<string | null> => {
  const { runTool, ToolError } = await import("@kiln/std/node"); // loaded here: most registries need no helper
  const command = `docker-credential-${name}`;
  const timeoutMs = around.timeoutMs ?? CREDENTIAL_LIMITS.helperMs;
  const timeout = AbortSignal.timeout(timeoutMs);
  const chunks: Uint8Array[] = [];
  let size = 0;
  const failure = (what: string) =>
    new KilnError("REGISTRY_CREDENTIALS_INVALID", `${command}, which ${file} names, ${what}`, { object: file });
  try {
    await runTool(command, ["get"], {
      signal: AbortSignal.any([around.signal, timeout]),
      env: { ...around.env },
      stdin: new TextEncoder().encode(`${key}\n`),
      onStdout: (chunk) => {
        size += chunk.length;
        if (size > CREDENTIAL_LIMITS.helperBytes) throw failure(`wrote more than ${CREDENTIAL_LIMITS.helperBytes} bytes`);
        chunks.push(chunk);
      },
    });
  } catch (error) {
    around.signal.throwIfAborted();
    if (timeout.aborted) throw failure(`did not answer in ${timeoutMs / 1000} seconds`);
    if (!(error instanceof ToolError)) throw error;
    if (error.code === "ENOENT") throw failure("is not in PATH");
    if (error.code !== "EXIT") throw failure(`cannot be run (${error.code})`);
    const said = Buffer.concat(chunks).toString("utf8").trim();
    if (said.startsWith(NOT_FOUND)) return null;
    throw failure(`failed with exit code ${error.exitCode ?? "?"}${wordsOf(said, error.stderr.trim())}`);
  }
  return Buffer.concat(chunks).toString("utf8");
};

/** Helpers say on stdout why they fail; what looks like an answer is not repeated. */
const wordsOf = (stdout: string, stderr: string): string => {
  const words = stdout === "" || stdout.includes("{") ? stderr : stdout;
  return words === "" || words.includes("{") ? "" : `: ${words.slice(0, 300)}`;
};

const parseAnswer = (answer: string, broken: () => KilnError): RegistryCredential => {
  let value: unknown;
  try {
    value = JSON.parse(answer);
  } catch {
    throw broken(); // the parser's message quotes what it read
  }
  const fields: { readonly Username?: unknown; readonly Secret?: unknown } = typeof value === "object" && value !== null ? value : {};
  const { Username: username, Secret: secret } = fields;
  if (typeof username !== "string" || typeof secret !== "string" || (username === "" && secret === "")) throw broken();
  return username === TOKEN_USER ? { identityToken: secret } : { username, password: secret };
};
