import { MEDIA_TYPES } from "@kiln/formats/oci";
import { KilnError } from "@kiln/protocol";
import { mergeVariables } from "./command.ts";
import type { ImageLayer } from "./ports.ts";

/** What the config of an image made from another says otherwise than that one's; null: the same. */
export interface ConfigChanges {
  readonly command: readonly string[] | null;
  /** One that is given drops the command that was there, as in a Dockerfile. */
  readonly entrypoint: readonly string[] | null;
  /** NAME=VALUE, over those that are there. */
  readonly env: readonly string[];
  readonly workingDir: string | null;
  readonly user: string | null;
  /** Over those that are there. */
  readonly labels: Readonly<Record<string, string>>;
}

export interface Derivation {
  /** The base's config and manifest as they are stored: whole, and understood before. */
  readonly config: Uint8Array;
  readonly manifest: Uint8Array;
  /** Above the base's layers; null where nothing was written. */
  readonly layer: Omit<ImageLayer, "mediaType" | "format"> | null;
  readonly changes: ConfigChanges;
  /** RFC 3339: of what is in the layer, so that the same content is the same image. Null where the image is a function of its inputs alone. */
  readonly created: string | null;
  /** What made it, for the image's history. */
  readonly createdBy: string;
  readonly comment: string;
}

type Json = Readonly<Record<string, unknown>>;

const DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const OCI_LAYER = `${MEDIA_TYPES.layerTar}+gzip`;

/** A base whose documents are docker's is followed by one whose are: tools refuse a mixture. */
const layerMediaType = (manifest: Json): string => (manifest["mediaType"] === MEDIA_TYPES.dockerManifest ? DOCKER_LAYER : OCI_LAYER);

/** The config of the image; the manifest follows it, since it names the config's digest. */
export const deriveConfig = (derivation: Derivation): Uint8Array => {
  const { layer, changes, created, createdBy, comment } = derivation;
  const base = parseDocument(derivation.config);
  const rootfs = asObject(base["rootfs"]);
  const diffIds = asList(rootfs["diff_ids"]);
  const entry = {
    ...(created === null ? {} : { created }),
    created_by: createdBy,
    ...(comment === "" ? {} : { comment }),
    ...(layer === null ? { empty_layer: true } : {}),
  };
  const { created: _created, ...rest } = base;
  return toBytes({
    ...rest,
    ...(created === null ? {} : { created }),
    config: changeConfig(asObject(base["config"]), changes),
    rootfs: { ...rootfs, type: "layers", diff_ids: layer === null ? diffIds : [...diffIds, layer.diffId] },
    history: [...historyOf(base, diffIds.length), entry],
  });
};

export const deriveManifest = (
  { manifest, layer }: Pick<Derivation, "manifest" | "layer">,
  config: { readonly digest: string; readonly size: number },
): Uint8Array => {
  const base = parseDocument(manifest);
  const isDocker = base["mediaType"] === MEDIA_TYPES.dockerManifest;
  const layers = asList(base["layers"]);
  const own = layer === null ? [] : [{ mediaType: layerMediaType(base), digest: layer.digest, size: layer.size }];
  return toBytes({
    schemaVersion: 2,
    mediaType: isDocker ? MEDIA_TYPES.dockerManifest : MEDIA_TYPES.manifest,
    config: { mediaType: isDocker ? MEDIA_TYPES.dockerConfig : MEDIA_TYPES.config, digest: config.digest, size: config.size },
    layers: [...layers, ...own],
  });
};

/** A line for each layer: tools match them by their number, and a base may have none at all. */
const historyOf = (config: Json, layers: number): readonly unknown[] => {
  const history = asList(config["history"]);
  return history.length > 0 ? history : Array.from({ length: layers }, () => ({}));
};

const changeConfig = (base: Json, changes: ConfigChanges): Json => {
  const { command, entrypoint, env, workingDir, user, labels } = changes;
  const { Cmd, ...withoutCommand } = base;
  const cmd = command ?? (entrypoint === null ? Cmd : undefined);
  return {
    ...withoutCommand,
    ...(cmd === undefined ? {} : { Cmd: cmd }),
    ...(entrypoint === null ? {} : { Entrypoint: entrypoint }),
    ...(env.length === 0 ? {} : { Env: mergeVariables([...asList(base["Env"]).map(String), ...env]) }),
    ...(workingDir === null ? {} : { WorkingDir: workingDir }),
    ...(user === null ? {} : { User: user }),
    ...(Object.keys(labels).length === 0 ? {} : { Labels: { ...asObject(base["Labels"]), ...labels } }),
  };
};

const parseDocument = (bytes: Uint8Array): Json => {
  try {
    return asObject(JSON.parse(new TextDecoder().decode(bytes)));
  } catch (error) {
    throw new KilnError("IMAGE_INVALID", "a config or manifest that was read before is not JSON", { cause: error });
  }
};

const asObject = (value: unknown): Json => (typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : {});

const asList = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

const toBytes = (document: object): Uint8Array => new TextEncoder().encode(JSON.stringify(document));
