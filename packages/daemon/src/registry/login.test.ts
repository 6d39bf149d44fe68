import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { suite, test } from "node:test";
import type { RegistryCredential } from "@kiln/protocol";
import { FakeClock, systemClock } from "@kiln/std";
import { createImage, Puller } from "./testing/pulling.ts";
import { assertFails, assertRecovers, isBlob, REPOSITORY, type Scene, withScene } from "./testing/scene.ts";
import { type Asked, refusal, type Reply, ScriptedRegistry, type Script } from "./testing/scripted-registry.ts";

const IMAGE = createImage(Array.from({ length: 6 }, () => randomBytes(2000)));
const PASSWORD = { username: "anna", password: "secret:words" };
const BASIC = `Basic ${Buffer.from("anna:secret:words").toString("base64")}`;

const refuse = (challenge: string | readonly string[]): Reply => ({
  ...refusal(401, "UNAUTHORIZED", "authentication required"),
  headers: { "www-authenticate": challenge, "content-type": "application/json" },
});

interface TokenScene {
  /** What was asked of the token server. */
  readonly tokens: readonly Asked[];
  /** The tokens that are good now. */
  readonly good: Set<string>;
  answer: (asked: Asked, token: string) => Reply;
}

/** A registry that takes the tokens of a server on its own host, under `/token` of another port. */
const withTokens = async (run: (scene: Scene & TokenScene & { readonly realm: ScriptedRegistry }) => Promise<void>): Promise<void> => {
  await using realm = await ScriptedRegistry.start();
  let n = 0;
  const good = new Set<string>();
  const tokenScene: { answer: TokenScene["answer"] } = {
    answer: (_asked, token) => ({ status: 200, body: Buffer.from(JSON.stringify({ token, expires_in: 300 })) }),
  };
  realm.script = (asked) => {
    n += 1;
    good.add(`token-${n}`);
    return tokenScene.answer(asked, `token-${n}`);
  };
  const challenge = `Bearer realm="${realm.url}/token",service="tokens",scope="repository:${REPOSITORY}:pull"`;
  const script: Script = ({ headers }, honest) => {
    const [, token = ""] = /^Bearer (.*)$/.exec(headers.authorization ?? "") ?? [];
    return good.has(token) ? honest : refuse(challenge);
  };
  await withScene(IMAGE, script, async (scene) => {
    await run(Object.assign(tokenScene, scene, { realm, good, tokens: realm.asked }));
    assert.equal(
      realm.asked.some(({ path }) => path !== "/token"),
      false,
    );
  });
  await realm.untilIdle();
};

const basicScript: Script = ({ headers }, honest) => (headers.authorization === BASIC ? honest : refuse('Basic realm="kiln, test"'));
const pullAs = ({ puller, registry, reference }: Scene, credential: RegistryCredential): Promise<unknown> =>
  puller.pull(reference, { credentials: { [registry.host]: credential } });

suite("basic authentication", { concurrency: true }, () => {
  test("the password is shown when it is asked for, and from then on at once", () =>
    withScene(IMAGE, basicScript, async (scene) => {
      await pullAs(scene, PASSWORD);
      assert.equal(scene.registry.asked.filter(({ headers }) => headers.authorization === undefined).length, 1);
      scene.registry.asked = [];
      await scene.puller.resolve(scene.reference, { credentials: { [scene.registry.host]: PASSWORD } });
      assert.equal(scene.registry.asked.length, 1);
    }));

  test("a wrong password is tried once, and the error holds no secret", () =>
    withScene(IMAGE, basicScript, async (scene) => {
      const failing = pullAs(scene, { username: "anna", password: "wrong-words" });
      const error = await assertFails(scene, failing, { code: "REGISTRY_UNAUTHORIZED", pattern: /does not exist or needs a login/ });
      assert.equal(scene.registry.asked.length, 2);
      assert.doesNotMatch(JSON.stringify([error.message, error.hint, error.cause]), /wrong-words|anna:/);
      assert.match(error.hint, new RegExp(`login ${scene.registry.host}`));
      await pullAs(scene, PASSWORD);
    }));

  test("nobody's password is used for somebody else's request", () =>
    withScene(IMAGE, basicScript, async (scene) => {
      await pullAs(scene, PASSWORD);
      for (const credentials of [{}, { "other:5000": PASSWORD }, { [`${scene.registry.host}/other`]: PASSWORD }]) {
        const failing = scene.puller.resolve(scene.reference, { credentials });
        await assertFails(scene, failing, { code: "REGISTRY_UNAUTHORIZED", pattern: /wants a login/ });
      }
    }));

  test("a registry that refuses everything is asked twice, and no more", () =>
    withScene(
      IMAGE,
      () => refuse('Basic realm="x"'),
      async (scene) => {
        await assertFails(scene, pullAs(scene, PASSWORD), {
          code: "REGISTRY_UNAUTHORIZED",
          pattern: /UNAUTHORIZED: authentication required/,
        });
        assert.equal(scene.registry.asked.length, 2);
      },
    ));

  test("a refusal without a way to log in, and 403, are typed errors", () =>
    withScene(
      IMAGE,
      () => refuse("Negotiate"),
      async (scene) => {
        await assertFails(scene, pullAs(scene, PASSWORD), { code: "REGISTRY_UNAUTHORIZED", pattern: /no way to log in/ });
        scene.registry.script = () => refusal(403, "DENIED", "not for you");
        await assertFails(scene, pullAs(scene, PASSWORD), { code: "REGISTRY_UNAUTHORIZED", pattern: /answered 403: DENIED: not for you/ });
      },
    ));
});

suite("tokens", { concurrency: true }, () => {
  test("one is fetched for a whole pull, and the next question costs one request", () =>
    withTokens(async (scene) => {
      await scene.pull();
      assert.equal(scene.tokens.length, 1);
      const [asked] = scene.tokens;
      assert.deepEqual(
        [asked?.method, asked?.query.get("service"), asked?.query.get("scope")],
        ["GET", "tokens", `repository:${REPOSITORY}:pull`],
      );
      assert.equal(asked?.headers.authorization, undefined);
      scene.registry.asked = [];
      await scene.puller.resolve(scene.reference);
      assert.equal(scene.registry.asked.length, 1);
    }));

  test("a password goes to the realm by GET, and never to the registry", () =>
    withTokens(async (scene) => {
      await pullAs(scene, PASSWORD);
      assert.equal(scene.tokens[0]?.headers.authorization, BASIC);
      assert.equal(
        scene.registry.asked.some(({ headers }) => headers.authorization === BASIC),
        false,
      );
    }));

  test("an identity token goes to the realm by POST, as OAuth2 has it", () =>
    withTokens(async (scene) => {
      scene.answer = (_asked, token) => ({ status: 200, body: Buffer.from(JSON.stringify({ access_token: token })) });
      await pullAs(scene, { identityToken: "refresh&me" });
      const [asked] = scene.tokens;
      const form = new URLSearchParams(asked?.body);
      assert.equal(asked?.method, "POST");
      assert.deepEqual([form.get("grant_type"), form.get("refresh_token"), form.get("service")], ["refresh_token", "refresh&me", "tokens"]);
      assert.equal(asked.headers.authorization, undefined);
    }));

  test("a registry token is shown as it is", () =>
    withTokens(async (scene) => {
      scene.good.add("mine");
      await pullAs(scene, { registryToken: "mine" });
      assert.equal(scene.tokens.length, 0);
    }));

  test("all layers that need a new one at once get it by one request", () =>
    withTokens(async (scene) => {
      const ask = scene.registry.script;
      let isRevoked = false;
      scene.registry.script = (asked, honest) => {
        if (isBlob(asked) && !isRevoked) {
          isRevoked = true;
          scene.good.clear();
        }
        return ask(asked, honest);
      };
      await scene.pull();
      assert.equal(scene.tokens.length, 2);
    }));

  test("two callers do not share one", () =>
    withTokens(async (scene) => {
      await pullAs(scene, PASSWORD);
      await scene.puller.resolve(scene.reference);
      await scene.puller.resolve(scene.reference, { credentials: { [scene.registry.host]: { username: "bert", password: "x" } } });
      assert.deepEqual(
        scene.tokens.map(({ headers }) => headers.authorization?.length ?? 0),
        [BASIC.length, 0, "Basic YmVydDp4".length],
      );
    }));

  const bad: readonly (readonly [string, Reply, string, RegExp])[] = [
    ["no JSON", { status: 200, body: Buffer.from("<html>") }, "REGISTRY_FAILED", /gave no token: its answer is not JSON/],
    ["no token in it", { status: 200, body: Buffer.from("{}") }, "REGISTRY_FAILED", /its answer has none/],
    ["a token with a line break", { status: 200, body: Buffer.from('{"token":"a\\r\\nx-evil: 1"}') }, "REGISTRY_FAILED", /can be none/],
    [
      "a token of a megabyte",
      { status: 200, body: Buffer.from(JSON.stringify({ token: "x".repeat(100_000) })) },
      "REGISTRY_FAILED",
      /can be none/,
    ],
    [
      "an endless answer",
      { status: 200, body: Buffer.alloc(10 * 2 ** 20, " "), isChunked: true },
      "REGISTRY_FAILED",
      /more than the 262144 bytes/,
    ],
    ["401", refusal(401, "UNAUTHORIZED", "who are you"), "REGISTRY_UNAUTHORIZED", /who are you/],
    ["403", { status: 403, body: Buffer.from('{"details":"not you"}') }, "REGISTRY_UNAUTHORIZED", /not you/],
    ["400 of OAuth2", { status: 400, body: Buffer.from('{"error":"invalid_grant"}') }, "REGISTRY_UNAUTHORIZED", /invalid_grant/],
    ["404", { status: 404 }, "REGISTRY_FAILED", /answered 404/],
    ["429 with a long time", { status: 429, headers: { "retry-after": "9999" } }, "REGISTRY_RATE_LIMITED", /come back in 3 hours/],
    ["500", { status: 500 }, "REGISTRY_FAILED", /answered 500/],
    ["silence", { status: 200, stallAfter: -1 }, "REGISTRY_UNREACHABLE", /does not answer/],
    ["a cut", { status: 200, body: Buffer.from("{}"), cutAfter: 1 }, "REGISTRY_UNREACHABLE", /ended the connection/],
    [
      "a token that the registry does not take",
      { status: 200, body: Buffer.from('{"token":"stale"}') },
      "REGISTRY_UNAUTHORIZED",
      /authentication required/,
    ],
  ];
  for (const [name, reply, code, pattern] of bad) {
    test(`${name} of the realm: a typed error, and the next pull works`, () =>
      withTokens(async (scene) => {
        const { answer } = scene;
        scene.answer = () => reply;
        const error = await assertFails(scene, pullAs(scene, PASSWORD), { code, pattern });
        assert.doesNotMatch(JSON.stringify([error.message, error.hint]), /secret/);
        assert.ok(scene.tokens.length <= 3 && scene.registry.asked.length <= 6);
        scene.answer = answer;
        await pullAs(scene, PASSWORD);
      }));
  }
});

test("a token is used until shortly before its end, at least a minute, and no request is made for one that is good", async () => {
  // time that the test moves for tokens, while sleeps are real
  const fake = new FakeClock();
  const clock = { now: () => fake.now(), monotonicMs: () => fake.monotonicMs(), sleep: systemClock.sleep };
  await using registry = await ScriptedRegistry.start();
  await using puller = await Puller.open({ clock });
  registry.serve(REPOSITORY, "v1", IMAGE);
  let lifetime: number | undefined = 300;
  registry.script = ({ path, headers }, honest) => {
    if (path === "/token") return { status: 200, body: Buffer.from(JSON.stringify({ token: "t", expires_in: lifetime })) };
    return headers.authorization === "Bearer t" ? honest : refuse(`Bearer realm="${registry.url}/token"`);
  };
  const resolve = async (): Promise<readonly string[]> => {
    registry.asked = [];
    await puller.resolve(`${registry.host}/${REPOSITORY}:v1`);
    return registry.lines.map((line) => line.replace(/ .*\//, " "));
  };
  assert.deepEqual(await resolve(), ["HEAD v1", "GET token", "HEAD v1"]);
  fake.advance(290_000);
  assert.deepEqual(await resolve(), ["HEAD v1"]);
  fake.advance(10_000);
  lifetime = 1;
  assert.deepEqual(await resolve(), ["GET token", "HEAD v1"], "a new one is fetched without being refused first");
  fake.advance(50_000);
  assert.deepEqual(await resolve(), ["HEAD v1"]);
  fake.advance(10_000);
  lifetime = undefined;
  assert.deepEqual(await resolve(), ["GET token", "HEAD v1"]);
});

suite("where a login may be", { concurrency: true }, () => {
  const challenged =
    (realm: string): Script =>
    () =>
      refuse(`Bearer realm="${realm}",service="s"`);
  const realms: readonly (readonly [string, string, RegExp])[] = [
    ["http://login.example/token?key=hidden", "REGISTRY_REDIRECT_REFUSED", /not over TLS/],
    ["ftp://127.0.0.1/token", "REGISTRY_REDIRECT_REFUSED", /not over TLS/],
    ["file:///etc/passwd", "REGISTRY_REDIRECT_REFUSED", /not over TLS/],
    ["//token", "REGISTRY_FAILED", /no address/],
    ["", "REGISTRY_FAILED", /no address/],
  ];
  for (const [realm, code, pattern] of realms) {
    test(`${JSON.stringify(realm)} is refused before anything is sent`, () =>
      withScene(IMAGE, challenged(realm), async (scene) => {
        const error = await assertFails(scene, pullAs(scene, PASSWORD), { code, pattern });
        assert.doesNotMatch(error.message, /hidden|secret/);
        assert.equal(scene.registry.asked.length, 1);
        await assertRecovers(scene, IMAGE);
      }));
  }

  test("a login on the registry itself is without TLS as the registry is", () =>
    withScene(
      IMAGE,
      (_asked, honest) => honest,
      async (scene) => {
        const { registry } = scene;
        registry.script = ({ path, headers }, honest) => {
          if (path === "/login") return { status: 200, body: Buffer.from('{"token":"t"}') };
          return headers.authorization === "Bearer t" ? honest : refuse([`Negotiate`, `Bearer realm="${registry.url}/login#x"`]);
        };
        await pullAs(scene, PASSWORD);
      },
    ));
});
