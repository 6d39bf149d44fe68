import { type DockerReference, dockerName, OciError, parseReference } from "@kiln/formats/oci";
import { KilnError } from "@kiln/protocol";
import { ExchangeError, plainText } from "./exchange-error.ts";

/** Throws REFERENCE_INVALID for what is no name of an image in a registry. */
export const parseRegistryReference = (reference: string): DockerReference => {
  try {
    const parsed = parseReference(reference);
    if (parsed.transport === "docker") return parsed;
  } catch (error) {
    if (error instanceof OciError) throw new KilnError("REFERENCE_INVALID", error.message, { cause: error, object: reference });
    throw error;
  }
  throw new KilnError("REFERENCE_INVALID", `${reference} is no image in a registry`, { object: reference });
};

/** What is fetched of which image, in the words of all its errors. */
export interface Wanted {
  readonly reference: DockerReference;
  /** A digest of one of its parts; null for what the name leads to. */
  readonly digest: string | null;
}

/** `registry/repository:tag` for what the name leads to, `registry/repository@digest` for a part. */
export const wantedText = ({ reference, digest }: Wanted): string =>
  digest === null ? dockerName(reference) : dockerName({ ...reference, tag: null, digest });

/** The error for whoever asked: with registry, repository and tag or digest. `hosts`: what each of them did, where several were asked. */
export const namedError = (thrown: unknown, wanted: Wanted, hosts: readonly string[] = []): unknown => {
  const isOurs = thrown instanceof ExchangeError || (thrown instanceof KilnError && thrown.code.startsWith("CONTENT_"));
  if (!isOurs) return thrown;
  const what = wantedText(wanted);
  const said = hosts.length > 1 ? hosts.join("; ") : thrown.message;
  const hint = hintFor(thrown, wanted);
  return new KilnError(thrown.code, messageFor(thrown, what, plainText(said, 2000)), {
    cause: thrown.cause ?? undefined,
    object: wanted.digest ?? dockerName(wanted.reference),
    ...(hint === undefined ? {} : { hint }),
  });
};

const messageFor = ({ code }: ExchangeError | KilnError, what: string, said: string): string => {
  if (code === "IMAGE_NOT_FOUND") return `${what} is not there: ${said}`;
  if (code === "REGISTRY_UNAUTHORIZED") return `access to ${what} is denied, it does not exist or needs a login: ${said}`;
  return `cannot fetch ${what}: ${said}`;
};

const hintFor = (thrown: ExchangeError | KilnError, { reference }: Wanted): string | undefined => {
  if (thrown instanceof ExchangeError && thrown.hint !== undefined) return thrown.hint;
  if (thrown.code === "IMAGE_NOT_FOUND") return `check the name and the tag: ${reference.domain} knows no such image`;
  if (thrown.code === "REGISTRY_UNAUTHORIZED")
    return `check the name, and log in with \`docker login ${reference.domain}\` or \`podman login ${reference.domain}\``;
  return undefined;
};
