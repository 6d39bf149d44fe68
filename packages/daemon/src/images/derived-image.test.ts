import assert from "node:assert/strict";
import { test } from "node:test";
import { parseImageConfig, parseImageDocument } from "@kiln/formats/oci";
import type { Digest } from "@kiln/protocol";
import { type ConfigChanges, type Derivation, deriveConfig, deriveManifest } from "./derived-image.ts";

const digest = (letter: string): Digest => `sha256:${letter.repeat(64)}` as Digest;
const bytes = (document: object): Uint8Array => new TextEncoder().encode(JSON.stringify(document));
const read = (document: Uint8Array) => JSON.parse(new TextDecoder().decode(document)) as Record<string, unknown>;

const CONFIG = {
  architecture: "amd64",
  os: "linux",
  created: "2020-01-01T00:00:00Z",
  author: "somebody",
  config: {
    Cmd: ["serve"],
    Entrypoint: ["/run"],
    Env: ["PATH=/bin", "A=1"],
    Labels: { a: "1", b: "2" },
    User: "www",
    Healthcheck: { Test: ["NONE"] },
  },
  rootfs: { type: "layers", diff_ids: [digest("1")] },
  history: [{ created_by: "base" }],
};
const layerIn = (mediaType: string) => ({ mediaType, digest: digest("a"), size: 10, annotations: { kept: "yes" } });
const OCI = {
  schemaVersion: 2,
  mediaType: "application/vnd.oci.image.manifest.v1+json",
  config: { mediaType: "application/vnd.oci.image.config.v1+json", digest: digest("c"), size: 1 },
  layers: [layerIn("application/vnd.oci.image.layer.v1.tar+zstd")],
};
const DOCKER = {
  schemaVersion: 2,
  mediaType: "application/vnd.docker.distribution.manifest.v2+json",
  config: { mediaType: "application/vnd.docker.container.image.v1+json", digest: digest("c"), size: 1 },
  layers: [layerIn("application/vnd.docker.image.rootfs.diff.tar.gzip")],
};

const NO_CHANGES: ConfigChanges = { command: null, entrypoint: null, env: [], workingDir: null, user: null, labels: {} };
const LAYER = { digest: digest("b"), size: 20, diffId: digest("2") };

const derivation = (what: Partial<Derivation> = {}): Derivation => ({
  ...{
    config: bytes(CONFIG),
    manifest: bytes(OCI),
    layer: LAYER,
    changes: NO_CHANGES,
    created: "2021-02-03T04:05:06Z",
    createdBy: "by",
    comment: "",
  },
  ...what,
});

test("a layer and its line of history are added, and what is not named stays, also what Kiln does not know", () => {
  const config = read(deriveConfig(derivation()));
  assert.deepEqual(config, {
    ...CONFIG,
    created: "2021-02-03T04:05:06Z",
    rootfs: { type: "layers", diff_ids: [digest("1"), digest("2")] },
    history: [{ created_by: "base" }, { created: "2021-02-03T04:05:06Z", created_by: "by" }],
  });
  const manifest = deriveManifest(derivation(), { digest: digest("d"), size: 7 });
  assert.deepEqual(read(manifest)["layers"], [
    ...OCI.layers,
    { mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", digest: LAYER.digest, size: 20 },
  ]);
  assert.equal(parseImageDocument(manifest, null, "manifest").kind, "manifest");
});

test("without a layer there are the same layers, and the history says that it is empty", () => {
  const config = read(deriveConfig(derivation({ layer: null, created: null, comment: "why" })));
  assert.deepEqual(config["rootfs"], CONFIG.rootfs);
  assert.deepEqual(config["history"], [{ created_by: "base" }, { created_by: "by", comment: "why", empty_layer: true }]);
  assert.equal("created" in config, false, "it is a function of its inputs");
  assert.deepEqual(read(deriveManifest(derivation({ layer: null }), { digest: digest("d"), size: 7 }))["layers"], OCI.layers);
});

test("over docker's documents there are docker's", () => {
  const manifest = read(deriveManifest(derivation({ manifest: bytes(DOCKER) }), { digest: digest("d"), size: 7 }));
  assert.equal(manifest["mediaType"], DOCKER.mediaType);
  assert.deepEqual(manifest["config"], { ...DOCKER.config, digest: digest("d"), size: 7 });
  assert.deepEqual(manifest["layers"], [...DOCKER.layers, { ...LAYER_OF_DOCKER }]);
});
const LAYER_OF_DOCKER = { mediaType: "application/vnd.docker.image.rootfs.diff.tar.gzip", digest: LAYER.digest, size: 20 };

test("changes are docker's: an entrypoint drops the command, a variable takes the place of its own", () => {
  const execution = (changes: Partial<ConfigChanges>) =>
    parseImageConfig(deriveConfig(derivation({ changes: { ...NO_CHANGES, ...changes } })));
  const { cmd, entrypoint, env, labels } = execution({ entrypoint: ["/other"], env: ["A=2", "B=3"], labels: { b: "3", c: "4" } });
  assert.deepEqual([cmd, entrypoint], [[], ["/other"]]);
  assert.deepEqual(env, ["PATH=/bin", "A=2", "B=3"]);
  assert.deepEqual({ ...labels }, { a: "1", b: "3", c: "4" });
  const both = execution({ entrypoint: [], command: ["x"], workingDir: "/w", user: "0" });
  assert.deepEqual([both.entrypoint, both.cmd, both.workingDir, both.user], [[], ["x"], "/w", "0"]);
  assert.deepEqual(execution({ command: ["y"] }).entrypoint, ["/run"]);
});

test("a base without history gets a line for each of its layers", () => {
  const { history: _none, ...config } = CONFIG;
  assert.deepEqual(read(deriveConfig(derivation({ config: bytes(config), created: null })))["history"], [{}, { created_by: "by" }]);
});
