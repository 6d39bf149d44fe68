/** A registry that a test scripts, somebody who pulls from it, and what must hold when either goes wrong. */
import assert from "node:assert/strict";
import { KilnError } from "@kiln/protocol";
import { type PullOptions, Puller, type TestImage } from "./pulling.ts";
import { type Asked, type Reply, ScriptedRegistry, type Script } from "./scripted-registry.ts";

export const REPOSITORY = "team/app";

export interface Scene {
  readonly registry: ScriptedRegistry;
  readonly puller: Puller;
  readonly reference: string;
  pull(options?: PullOptions): Promise<unknown>;
}

/** A registry with the image as `team/app:v1`, and who pulls it; afterwards nothing is left of either. */
export const withScene = async (image: TestImage, script: Script, run: (scene: Scene) => Promise<void>): Promise<void> => {
  await using registry = await ScriptedRegistry.start();
  await using puller = await Puller.open();
  registry.serve(REPOSITORY, "v1", image);
  registry.script = script;
  const reference = `${registry.host}/${REPOSITORY}:v1`;
  await run({ registry, puller, reference, pull: (options) => puller.pull(reference, options) });
  await puller.assertClean();
  await puller.source[Symbol.asyncDispose]();
  await registry.untilIdle();
};

/** Changes the first `count` replies that `applies` to. */
export const first = (count: number, applies: (asked: Asked) => boolean, change: (honest: Reply, asked: Asked) => Reply): Script => {
  let left = count;
  return (asked, honest) => {
    if (!applies(asked) || left === 0) return honest;
    left -= 1;
    return change(honest, asked);
  };
};

export const always = (applies: (asked: Asked) => boolean, change: (honest: Reply, asked: Asked) => Reply): Script =>
  first(Infinity, applies, change);

export const isManifest = ({ path }: Asked): boolean => path.includes("/manifests/");
export const isBlob = ({ path }: Asked): boolean => path.includes("/blobs/");

export interface ExpectedFailure {
  readonly code: string;
  readonly pattern: RegExp;
}

/** Fails unless the run does so with this code, in an error that names registry, repository and digest or tag. */
export const assertFails = async ({ registry }: Scene, run: Promise<unknown>, expected: ExpectedFailure): Promise<KilnError> => {
  const caught: unknown = await run.then(
    () => assert.fail("it did not fail"),
    (error: unknown) => error,
  );
  assert.ok(caught instanceof KilnError, String(caught));
  assert.equal(caught.code, expected.code, caught.message);
  assert.match(caught.message, expected.pattern);
  assert.ok(caught.message.includes(`${registry.host}/${REPOSITORY}`), caught.message);
  assert.match(caught.message, /sha256:[0-9a-f]{64}|:v1/);
  assert.ok(caught.object !== null);
  // oxlint-disable-next-line no-control-regex -- they are what is looked for
  assert.doesNotMatch(caught.message, /[\u0000-\u001f\u007f]/);
  return caught;
};

/** The store has nothing but what was verified, and the next good pull works. */
export const assertRecovers = async ({ registry, puller, pull }: Scene, image: TestImage): Promise<void> => {
  assert.deepEqual(
    (await puller.stored()).filter((digest) => !image.blobs.has(digest)),
    [],
  );
  registry.script = (_asked, honest) => honest;
  await pull();
  assert.deepEqual(await puller.stored(), [...image.blobs.keys()].sort());
};
