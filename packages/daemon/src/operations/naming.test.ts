import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { Readable } from "node:stream";
import { test } from "node:test";
import { type Digest, KilnError, type OperationView, pullImageRequest, registerImageRequest } from "@kiln/protocol";
import type { ResolvedImage } from "../images/ports.ts";
import { isSameContent, namedContent, requireName } from "../images/naming.ts";
import type { ImageRecord } from "../images/records.port.ts";
import { beginPullImage, importImage, tagImage } from "./images.ts";
import { beginRegisterImage } from "./register-image.ts";
import { createFakeCore, type FakeCore } from "./testing/fake-core.ts";

const digest = (letter: string): Digest => `sha256:${letter.repeat(64)}` as Digest;
const PUBLISHERS = 8;
const LETTERS = "01234567";

/** Lets nobody through until all have come. */
const gather = (count: number) => {
  const all = Promise.withResolvers<void>();
  let held = 0;
  return async (name: string): Promise<void> => {
    if (name !== "image.naming") return;
    held += 1;
    if (held >= count) all.resolve();
    await all.promise;
  };
};

const image = (letter: string): ResolvedImage =>
  ({
    manifestDigest: digest(letter),
    configDigest: digest(letter),
    layers: [],
    platform: { os: "linux", architecture: "amd64", variant: "" },
  }) as never;

type Publisher = (fake: FakeCore, name: string, letter: string) => Promise<unknown>;

const settled = async (fake: FakeCore, operation: OperationView): Promise<void> => {
  const { state, error } = await fake.ended(operation);
  if (state !== "succeeded") throw new KilnError(error?.code as "INTERNAL", error?.detail ?? state);
};

const load: Publisher = (fake, reference, letter) =>
  importImage(fake.core, { reference, root: digest(letter) }, async () => ({ state: "complete", image: image(letter) }));

const tag: Publisher = (fake, target, letter) => tagImage(fake.core, { source: `source:${letter}`, target });

/** Callers who ask differently share no pull; what each is given is its own. */
const pull: Publisher = (fake, reference, letter) => {
  const credentials = { [letter + randomUUID()]: { registryToken: letter } };
  const operation = beginPullImage(fake.core, pullImageRequest.parse({ reference }), { idempotencyKey: null, caller: letter, credentials });
  return settled(fake, operation);
};

const registering =
  (mayReplace: boolean): Publisher =>
  async (fake, name, letter) => {
    using lease = fake.core.leases.begin();
    const { signal } = new AbortController();
    const { digest: rootfs } = await fake.core.content.ingestUnnamed(Readable.from([Buffer.from(letter)]), { lease, signal });
    const request = registerImageRequest.parse({ name, rootfs, replace: mayReplace });
    return await settled(fake, beginRegisterImage(fake.core, request, { idempotencyKey: null, caller: letter }));
  };

const register = registering(false);
/** All of them saw what the name led to, and may take it from that. */
const replace = registering(true);

/** Publishes all at once, each held before it takes the name. */
const race = async (
  publish: Publisher,
  letters: string,
): Promise<{ fake: FakeCore; name: string; outcomes: PromiseSettledResult<unknown>[] }> => {
  const name = publish === pull ? "deb:raced" : "docker.io/library/raced:latest";
  let hold = async (_point: string): Promise<void> => undefined;
  const fake = await createFakeCore({
    root: (credentials) => digest(Object.keys(credentials).join().slice(0, 1)),
    checkpoint: (point) => hold(point),
  });
  for (const letter of new Set(letters)) await load(fake, `source:${letter}`, letter);
  if (publish === replace) await load(fake, name, "before");
  hold = gather(letters.length);
  const outcomes = await Promise.allSettled([...letters].map((letter) => publish(fake, name, letter)));
  return { fake, name, outcomes };
};

const rootfsOf = (letter: string): string => `sha256:${createHash("sha256").update(letter).digest("hex")}`;

/** What tells what one published from what the others did. */
const contentOf = (fake: FakeCore, name: string, publish: Publisher): string | undefined => {
  const record = fake.core.images.getImage(name);
  return publish === register || publish === replace ? record?.image.layers[0]?.digest : record?.root;
};

for (const [what, publish] of Object.entries({ load, tag, pull, register, "register with --replace": replace })) {
  test(`I3 of ${PUBLISHERS} that ${what} other content under one name at once, one wins and the others are told`, async () => {
    const { fake, name, outcomes } = await race(publish, LETTERS);
    await using _fake = fake;
    const winners = [...LETTERS].filter((_letter, index) => outcomes[index]?.status === "fulfilled");
    assert.equal(winners.length, 1);
    const codes = outcomes.flatMap((one) => (one.status === "rejected" ? [(one.reason as KilnError).code] : []));
    assert.deepEqual(
      codes,
      Array.from({ length: PUBLISHERS - 1 }, () => "IMAGE_NAME_CONFLICT"),
    );
    const [won = ""] = winners;
    assert.equal(contentOf(fake, name, publish), publish === register || publish === replace ? rootfsOf(won) : digest(won));
  });

  test(`I3 ${PUBLISHERS} that ${what} the same content under one name at once all succeed`, async () => {
    const { fake, name, outcomes } = await race(publish, "7".repeat(PUBLISHERS));
    await using _fake = fake;
    assert.deepEqual(new Set(outcomes.map(({ status }) => status)), new Set(["fulfilled"]));
    assert.equal(contentOf(fake, name, publish), publish === register || publish === replace ? rootfsOf("7") : digest("7"));
  });
}

test("I3 a name is moved by who saw what it leads to, and by nobody else", () => {
  const record = (letter: string): ImageRecord => ({
    ...{ reference: "x", image: image(letter), root: digest(letter), rootfsKey: letter, createdAt: "now" },
  });
  const [a, b, c] = [record("a"), record("b"), record("c")];
  const conflict = { code: "IMAGE_NAME_CONFLICT", status: 409 };
  const seen = (one: ImageRecord | null, replace: boolean) => ({ expect: namedContent(one), replace });
  requireName(null, a, seen(null, false));
  requireName(null, a, seen(b, true)); // what it led to has gone meanwhile
  requireName(a, record("a"), seen(null, false));
  requireName(b, a, seen(b, true));
  assert.throws(() => requireName(b, a, seen(b, false)), { ...conflict, hint: /--replace/ });
  assert.throws(() => requireName(b, a, seen(null, true)), conflict);
  assert.throws(() => requireName(b, a, seen(c, true)), conflict);
  const otherPlatform = { ...b, image: { ...b.image, manifestDigest: digest("d") } };
  assert.equal(isSameContent(namedContent(b), namedContent(otherPlatform)), false);
  assert.throws(() => requireName(otherPlatform, a, seen(b, true)), conflict);
});
