import { OciError } from "./errors.ts";

export interface DebPackage {
  readonly name: string;
  readonly version: string | null;
}

/** `[DOMAIN/]REPOSITORY[:TAG][@DIGEST]` of distribution/reference, with docker's short names written out. */
export interface DockerReference {
  /** `docker.io`, or `host[:port]`. */
  readonly domain: string;
  readonly repository: string;
  /** null only where there is a digest. */
  readonly tag: string | null;
  readonly digest: string | null;
}

/** An image's name by its transport, as skopeo names them; a bare name is `docker://`. */
export type ImageReference =
  | { readonly transport: "oci"; readonly directory: string; readonly tag: string | null }
  | { readonly transport: "deb"; readonly packages: readonly DebPackage[]; readonly essential: boolean }
  | { readonly transport: "oci-archive" | "docker-archive"; readonly file: string }
  | ({ readonly transport: "docker" } & DockerReference);

const REFERENCE_LENGTH = 4096;
const TRANSPORT = /^(oci|deb|oci-archive|docker-archive):(.*)$/s;
/** Debian policy 5.6.1, with the version of 5.6.12. A name never begins with `-`, so that it is no option. */
const DEB_PACKAGE = /^([a-z0-9][a-z0-9+.-]+)(?:=([A-Za-z0-9][A-Za-z0-9.+:~-]*))?$/;
const ESSENTIAL = "+essential";
/** A ref name of image-spec's annotations.md. */
const TAG = /^(?=.{1,256}$)[A-Za-z0-9_]+(?:[-._:@/+]+[A-Za-z0-9_]+)*$/;
/** The grammar of distribution/reference (reference.go). */
const DOMAIN =
  /^(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?$/;
const REPOSITORY = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*$/;
const DOCKER_TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const SHA256 = /^sha256:[0-9a-f]{64}$/;
const REPOSITORY_LENGTH = 255;
/** What docker means by a name without a domain. */
const DEFAULT_DOMAIN = "docker.io";
const LEGACY_DOMAIN = "index.docker.io";
const OFFICIAL = "library/";
const DEFAULT_TAG = "latest";

const invalid = (text: string, why: string): OciError =>
  new OciError("REFERENCE", `${JSON.stringify(text.slice(0, 200))} is no image reference: ${why}`);

const hasControlCharacters = (text: string): boolean => [...text].some((letter) => letter < " " || letter === "\u007f");

/** Throws OciError REFERENCE. */
export const parseReference = (text: string): ImageReference => {
  if (text === "") throw invalid(text, "it is empty");
  if (text.length > REFERENCE_LENGTH) throw invalid(text, `it is longer than ${REFERENCE_LENGTH} letters`);
  if (hasControlCharacters(text)) throw invalid(text, "it has control characters");
  const [, transport, rest] = TRANSPORT.exec(text) ?? [];
  if (transport === "oci" && rest !== undefined) return parseOci(text, rest);
  if (transport === "deb" && rest !== undefined) return parseDeb(text, rest);
  if ((transport === "oci-archive" || transport === "docker-archive") && rest !== undefined) {
    if (rest === "") throw invalid(text, "it names no file");
    return { transport, file: rest };
  }
  const name = text.startsWith("docker://") ? text.slice("docker://".length) : text;
  return { transport: "docker", ...parseDocker(text, name) };
};

/** docker's rules: what has a dot, a colon or capitals before the first slash, or is `localhost`, is a domain. */
const splitDomain = (name: string): { readonly domain: string; readonly repository: string } => {
  const slash = name.indexOf("/");
  const first = slash === -1 ? "" : name.slice(0, slash);
  const hasDomain = /[.:]/.test(first) || first === "localhost" || first !== first.toLowerCase();
  const domain = !hasDomain || first === LEGACY_DOMAIN ? DEFAULT_DOMAIN : first;
  const repository = hasDomain ? name.slice(slash + 1) : name;
  return { domain, repository: domain === DEFAULT_DOMAIN && !repository.includes("/") ? `${OFFICIAL}${repository}` : repository };
};

const parseDocker = (text: string, name: string): DockerReference => {
  const [tagged = "", digest = null, ...more] = name.split("@");
  if (more.length > 0) throw invalid(text, "it has more than one @");
  if (digest !== null && !SHA256.test(digest)) throw invalid(text, `${JSON.stringify(digest)} is no sha256 digest`);
  const colon = tagged.lastIndexOf(":");
  const hasTag = colon > tagged.lastIndexOf("/");
  const tag = hasTag ? tagged.slice(colon + 1) : null;
  const { domain, repository } = splitDomain(hasTag ? tagged.slice(0, colon) : tagged);
  if (tag !== null && !DOCKER_TAG.test(tag)) throw invalid(text, `${JSON.stringify(tag)} is no tag`);
  if (!DOMAIN.test(domain)) throw invalid(text, `${JSON.stringify(domain)} is no host of a registry`);
  if (!REPOSITORY.test(repository) || repository.length > REPOSITORY_LENGTH) {
    throw invalid(text, "it is neither TRANSPORT:… nor the name of an image in a registry (lower-case letters, digits and ._-/)");
  }
  return { domain, repository, tag: tag ?? (digest === null ? DEFAULT_TAG : null), digest };
};

/** The one name of an image in a registry, whatever short form it was given in. */
export const dockerName = ({ domain, repository, tag, digest }: DockerReference): string =>
  `${domain}/${repository}${tag === null ? "" : `:${tag}`}${digest === null ? "" : `@${digest}`}`;

/** The name as people write it: without docker.io, and without library/. */
export const familiarName = (name: string): string => {
  const prefix = `${DEFAULT_DOMAIN}/`;
  if (!name.startsWith(prefix)) return name;
  const rest = name.slice(prefix.length);
  // a repository may begin with what would then be the domain
  if (splitDomain(rest).repository !== rest) return name;
  const short = rest.slice(OFFICIAL.length);
  // an image may be called oci or deb, and its short name would then mean another transport
  return rest.startsWith(OFFICIAL) && !short.includes("/") && !TRANSPORT.test(short) ? short : rest;
};

/** `DIR[:TAG]`, split at the first colon as skopeo does: a tag may have colons, a directory may not. */
const parseOci = (text: string, rest: string): ImageReference => {
  const colon = rest.indexOf(":");
  const directory = colon === -1 ? rest : rest.slice(0, colon);
  const tag = colon === -1 ? null : rest.slice(colon + 1);
  if (directory === "") throw invalid(text, "it names no directory");
  if (tag !== null && !TAG.test(tag)) throw invalid(text, `${JSON.stringify(tag)} is no tag`);
  return { transport: "oci", directory, tag };
};

const parseDeb = (text: string, rest: string): ImageReference => {
  const parts = rest.split(",");
  const packages = parts
    .filter((part) => part !== ESSENTIAL)
    .map((part): DebPackage => {
      const [, name, version] = DEB_PACKAGE.exec(part) ?? [];
      if (name === undefined) throw invalid(text, `${JSON.stringify(part)} is not PACKAGE[=VERSION]`);
      return { name, version: version ?? null };
    });
  const names = new Set(packages.map((one) => one.name));
  if (names.size !== packages.length) throw invalid(text, "it names a package twice");
  if (packages.length === 0) throw invalid(text, "it names no package");
  return { transport: "deb", packages, essential: parts.includes(ESSENTIAL) };
};
