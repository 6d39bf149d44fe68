import { OciError } from "./errors.ts";

export interface DebPackage {
  readonly name: string;
  readonly version: string | null;
}

/** An image's name by its transport, as skopeo names them; a bare name is `docker://`. */
export type ImageReference =
  | { readonly transport: "oci"; readonly directory: string; readonly tag: string | null }
  | { readonly transport: "deb"; readonly packages: readonly DebPackage[]; readonly essential: boolean }
  | { readonly transport: "oci-archive" | "docker-archive"; readonly file: string }
  | { readonly transport: "docker"; readonly name: string };

const REFERENCE_LENGTH = 4096;
/** Debian policy 5.6.1, with the version of 5.6.12. A name never begins with `-`, so that it is no option. */
const DEB_PACKAGE = /^([a-z0-9][a-z0-9+.-]+)(?:=([A-Za-z0-9][A-Za-z0-9.+:~-]*))?$/;
const ESSENTIAL = "+essential";
/** A ref name of image-spec's annotations.md. */
const TAG = /^(?=.{1,256}$)[A-Za-z0-9_]+(?:[-._:@/+]+[A-Za-z0-9_]+)*$/;
/** Domain or path components in lower case with an optional port, tag and digest (distribution/reference). */
const DOCKER_NAME = /^[a-zA-Z0-9](?:[a-zA-Z0-9._:/@-]*[a-zA-Z0-9])?$/;

const invalid = (text: string, why: string): OciError =>
  new OciError("REFERENCE", `${JSON.stringify(text.slice(0, 200))} is no image reference: ${why}`);

const hasControlCharacters = (text: string): boolean => [...text].some((letter) => letter < " " || letter === "\u007f");

/** Throws OciError REFERENCE. */
export const parseReference = (text: string): ImageReference => {
  if (text === "") throw invalid(text, "it is empty");
  if (text.length > REFERENCE_LENGTH) throw invalid(text, `it is longer than ${REFERENCE_LENGTH} letters`);
  if (hasControlCharacters(text)) throw invalid(text, "it has control characters");
  const [, transport, rest] = /^(oci|deb|oci-archive|docker-archive):(.*)$/s.exec(text) ?? [];
  if (transport === "oci" && rest !== undefined) return parseOci(text, rest);
  if (transport === "deb" && rest !== undefined) return parseDeb(text, rest);
  if ((transport === "oci-archive" || transport === "docker-archive") && rest !== undefined) {
    if (rest === "") throw invalid(text, "it names no file");
    return { transport, file: rest };
  }
  const name = text.startsWith("docker://") ? text.slice("docker://".length) : text;
  if (!DOCKER_NAME.test(name) || name.includes("//"))
    throw invalid(text, "it is neither TRANSPORT:… nor the name of an image in a registry");
  return { transport: "docker", name };
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
