import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { causesOf, KilnError } from "@kiln/protocol/errors";
import { registryCredentials } from "@kiln/protocol";
import { askHelper } from "./credentials/ask-program.ts";
import { credentialFilePaths } from "./credentials/paths.ts";
import { findRegistryCredentials } from "./registry-credentials.ts";

const SECRET = "correct-horse-battery";
const basic = (user: string, password: string): string => Buffer.from(`${user}:${password}`).toString("base64");
const NEVER = new AbortController().signal;

let root = "";
before(async () => {
  root = await mkdtemp(join(tmpdir(), "kiln-credentials-"));
});
after(() => rm(root, { recursive: true }));

let count = 0;

/** A user with these files and helpers, and the question for an image. */
const asUser = async (files: Readonly<Record<string, unknown>>, helpers: Readonly<Record<string, string>> = {}) => {
  count += 1;
  const home = join(root, String(count));
  await mkdir(join(home, "bin"), { recursive: true });
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(home, name)), { recursive: true });
    await writeFile(join(home, name), typeof content === "string" ? content : JSON.stringify(content));
  }
  for (const [name, script] of Object.entries(helpers)) {
    await writeFile(join(home, "bin", `docker-credential-${name}`), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  }
  const env = { PATH: `${join(home, "bin")}:${process.env["PATH"] ?? ""}`, XDG_RUNTIME_DIR: join(home, "run"), LOG: join(home, "log") };
  return {
    home,
    find: (name: string, more: Readonly<Record<string, string>> = {}, isWorthHelper?: () => Promise<boolean>) => {
      const slash = name.indexOf("/");
      const image = { domain: name.slice(0, slash), repository: name.slice(slash + 1) };
      const from = { env: { ...env, ...more }, uid: 1000, userHome: home };
      return findRegistryCredentials({ image, from, signal: NEVER, isWorthHelper });
    },
  };
};

const DOCKER = ".docker/config.json";
const PODMAN = ".config/containers/auth.json";

describe("an entry says who one is", () => {
  const table: readonly [string, unknown, unknown][] = [
    ["base64", { auth: basic("ann", SECRET) }, { username: "ann", password: SECRET }],
    ["base64 with colons and zero bytes", { auth: basic("ann", "a:b\0\0") }, { username: "ann", password: "a:b" }],
    ["plain", { username: "ann", password: SECRET }, { username: "ann", password: SECRET }],
    ["an identity token", { auth: basic("<token>", "x"), identitytoken: SECRET }, { identityToken: SECRET }],
    ["a registry token", { registrytoken: SECRET }, { registryToken: SECRET }],
    ["more than is known", { auth: basic("ann", SECRET), email: "a@b" }, { username: "ann", password: SECRET }],
  ];
  for (const [name, entry, credential] of table) {
    test(name, async () => {
      const user = await asUser({ [DOCKER]: { auths: { "registry.example": entry } } });
      const found = await user.find("registry.example/a/b");
      assert.deepEqual(found, { "registry.example": credential });
      assert.deepEqual(registryCredentials.parse(found), found, "the protocol takes it");
    });
  }
  test("an empty entry says nothing", async () => {
    assert.deepEqual(await (await asUser({ [DOCKER]: { auths: { h: {} } } })).find("h/a"), {});
  });
});

describe("keys", () => {
  const auth = (password: string) => ({ auth: basic("u", password) });
  const passwordFor = async (auths: Readonly<Record<string, unknown>>, image: string): Promise<string | undefined> => {
    const [found] = Object.values(await (await asUser({ [PODMAN]: { auths } })).find(image));
    return found !== undefined && "password" in found ? found.password : undefined;
  };
  const table: readonly [string, string, string | undefined][] = [
    ["https://index.docker.io/v1/", "docker.io/library/alpine", "yes"],
    ["index.docker.io", "docker.io/library/alpine", "yes"],
    ["docker.io", "docker.io/library/alpine", "yes"],
    ["https://host:5000", "host:5000/a", "yes"],
    ["http://host:5000/v2/", "host:5000/a", "yes"],
    ["host:5000/v1/", "host:5000/a", "yes"],
    ["host", "host:5000/a", undefined],
    ["host:5000", "host/a", undefined],
    ["evil-host", "host/a", undefined],
    ["host.evil", "host/a", undefined],
    ["host/team", "host/team/a", "yes"],
    ["host/team/a", "host/team/a", "yes"],
    ["host/tea", "host/team/a", undefined],
    ["host/team/a/b", "host/team/a", undefined],
  ];
  for (const [key, image, expected] of table) {
    test(`${key} is ${expected === undefined ? "nothing for" : "for"} ${image}`, async () => {
      assert.equal(await passwordFor({ [key]: auth("yes") }, image), expected);
    });
  }
  test("the longest namespace counts", async () => {
    const auths = { h: auth("host"), "h/a": auth("team"), "h/a/b": auth("image") };
    assert.equal(await passwordFor(auths, "h/a/b"), "image");
    assert.equal(await passwordFor(auths, "h/a/c/d"), "team");
    assert.equal(await passwordFor(auths, "h/x"), "host");
  });
});

describe("files", () => {
  const file = (name: string) => ({ auths: { h: { username: name, password: "p" } } });
  const userOf = (found: object): unknown => (Object.values(found)[0] as { username?: string } | undefined)?.username;
  test("podman's come before docker's, and what one does not know the next may", async () => {
    const all = { "run/containers/auth.json": file("run"), [PODMAN]: file("config"), [DOCKER]: file("docker") };
    assert.equal(userOf(await (await asUser(all)).find("h/a")), "run");
    assert.equal(userOf(await (await asUser({ ...all, "run/containers/auth.json": { auths: { other: {} } } })).find("h/a")), "config");
    assert.equal(userOf(await (await asUser({ [DOCKER]: file("docker") })).find("h/a")), "docker");
  });
  test("the environment moves them, and REGISTRY_AUTH_FILE is the only one", async () => {
    const user = await asUser({ "x/containers/auth.json": file("xdg"), "d/config.json": file("moved"), own: file("own"), none: {} });
    const at = (name: string) => join(user.home, name);
    assert.equal(userOf(await user.find("h/a", { XDG_CONFIG_HOME: at("x") })), "xdg");
    assert.equal(userOf(await user.find("h/a", { DOCKER_CONFIG: at("d") })), "moved");
    assert.equal(userOf(await user.find("h/a", { DOCKER_CONFIG: at("d"), REGISTRY_AUTH_FILE: at("own") })), "own");
    assert.deepEqual(await user.find("h/a", { DOCKER_CONFIG: at("d"), REGISTRY_AUTH_FILE: at("none") }), {});
    assert.deepEqual(await user.find("h/a", { REGISTRY_AUTH_FILE: at("missing") }), {});
  });
  test("without XDG_RUNTIME_DIR podman's is below /run/containers", () => {
    const paths = credentialFilePaths({ env: { REGISTRY_AUTH_FILE: "" }, uid: 7, userHome: "/u" });
    assert.deepEqual(paths, ["/run/containers/7/auth.json", "/u/.config/containers/auth.json", "/u/.docker/config.json"]);
  });
  test("only what belongs to the image's registry leaves the file", async () => {
    const auths = { a: { auth: basic("a", SECRET) }, b: { auth: basic("b", SECRET) } };
    assert.deepEqual(Object.keys(await (await asUser({ [DOCKER]: { auths } })).find("b/x")), ["b"]);
    assert.deepEqual(await (await asUser({ [DOCKER]: { auths } })).find("c/x"), {});
  });
});

/** The error names the object and says nothing of the secret, in its causes neither. */
const complaint =
  (words: RegExp) =>
  (error: unknown): boolean => {
    assert(error instanceof KilnError && error.code === "REGISTRY_CREDENTIALS_INVALID", String(error));
    const all = [error.message, error.hint, ...causesOf(error), String(error.stack)].join("\n");
    assert(!all.includes(SECRET) && !all.includes(basic("ann", SECRET)), all);
    assert.match(error.message, words);
    return true;
  };

describe("what is wrong is named, and never shown", () => {
  const entry = (fields: object) => ({ auths: { h: fields } });
  const table: readonly [string, unknown, RegExp][] = [
    ["no JSON", `{"auths": ${SECRET}`, /config\.json: it is not JSON/],
    ["no object", `"${SECRET}"`, /not a JSON object/],
    ["auths is a list", { auths: [SECRET] }, /auths is not an object/],
    ["an entry is a string", { auths: { h: SECRET } }, /entry for "h" is not an object/],
    ["an auth is a number", entry({ auth: 7 }), /an? auth that is not a string/],
    ["an auth without a colon", entry({ auth: Buffer.from(SECRET).toString("base64") }), /not base64 of username:password/],
    ["an auth that is no base64", entry({ auth: `${SECRET}:x!` }), /not base64/],
    ["a helper that is no word", { credHelpers: { h: "../x" } }, /a helper that is no name/],
    ["a store that is a list", { credsStore: [] }, /credsStore is not a name/],
    ["a helper that is not there", { credsStore: "gone" }, /docker-credential-gone, which .*config\.json names, is not in PATH/],
    ["a file that is too long", `{"x":"${SECRET.repeat(60_000)}"}`, /longer than/],
  ];
  for (const [name, content, words] of table) {
    test(name, async () => assert.rejects((await asUser({ [DOCKER]: content })).find("h/a"), complaint(words)));
  }
  test("a directory", async () => {
    const user = await asUser({ [`${DOCKER}/x`]: "" });
    await assert.rejects(user.find("h/a"), complaint(/config\.json: it .*(not a file|EISDIR)/));
  });
});

describe("helpers are run by docker's protocol", () => {
  const answer = (username: string): string => `cat > "$LOG"; echo '{"ServerURL":"x","Username":"${username}","Secret":"${SECRET}"}'`;
  test("the registry's own helper, with the host on stdin and `get` as its word", async () => {
    const script = `[ "$1" = get ] || exit 3\n${answer("ann")}`;
    const config = { credHelpers: { "h:5000": "one" }, credsStore: "two", auths: { "h:5000": { auth: basic("old", "x") } } };
    const user = await asUser({ [DOCKER]: config }, { one: script, two: "exit 9" });
    assert.deepEqual(await user.find("h:5000/a"), { "h:5000": { username: "ann", password: SECRET } });
    assert.equal(await readFile(join(user.home, "log"), "utf8"), "h:5000\n");
  });
  test("the store for the others; docker.io by its old name", async () => {
    const user = await asUser({ [DOCKER]: { credHelpers: { h: "one" }, credsStore: "two" } }, { one: "exit 9", two: answer("<token>") });
    assert.deepEqual(await user.find("docker.io/library/x"), { "docker.io": { identityToken: SECRET } });
    assert.equal(await readFile(join(user.home, "log"), "utf8"), "https://index.docker.io/v1/\n");
  });
  test("one that knows nothing leaves the file's own entry, or nothing", async () => {
    const script = "echo credentials not found in native keychain; exit 1";
    const user = await asUser({ [DOCKER]: { credsStore: "two", auths: { h: { auth: basic("ann", SECRET) } } } }, { two: script });
    assert.deepEqual(await user.find("h/a"), { h: { username: "ann", password: SECRET } });
    assert.deepEqual(await user.find("other/a"), {});
  });
  test("one that is not worth asking is not run", async () => {
    const user = await asUser({ [DOCKER]: { credsStore: "two" } }, { two: answer("ann") });
    assert.deepEqual(await user.find("h/a", {}, async () => false), {});
    await assert.rejects(readFile(join(user.home, "log")));
  });
  const broken: readonly [string, string, RegExp][] = [
    ["fails", `echo locked; exit 1`, /exit code 1: locked/],
    ["fails in the middle of its answer", `echo '{"Secret":"${SECRET}"'; exit 1`, /exit code 1$/],
    ["answers no JSON", `echo ${SECRET}`, /gave no credentials for h/],
    ["answers nothing", "true", /gave no credentials/],
    ["answers without a name", `echo '{"Secret":"${SECRET}"}'`, /gave no credentials/],
    ["writes without end", "yes", /wrote more than/],
  ];
  for (const [name, script, words] of broken) {
    test(`one that ${name} is an error`, async () => {
      await assert.rejects((await asUser({ [DOCKER]: { credsStore: "two" } }, { two: script })).find("h/a"), complaint(words));
    });
  }
  test("one that never answers is ended", async () => {
    const user = await asUser({}, { slow: "sleep 600" });
    const env = { PATH: `${join(user.home, "bin")}:${process.env["PATH"] ?? ""}` };
    const question = { name: "slow", key: "h", file: "f" };
    await assert.rejects(askHelper(question, { env, signal: NEVER, timeoutMs: 200 }), complaint(/did not answer in 0.2 seconds/));
  });
  test("an interruption ends it", async () => {
    const user = await asUser({}, { slow: "sleep 600" });
    const env = { PATH: `${join(user.home, "bin")}:${process.env["PATH"] ?? ""}` };
    const reason = new KilnError("CANCELLED", "interrupted");
    const controller = new AbortController();
    const asked = askHelper({ name: "slow", key: "h", file: "f" }, { env, signal: controller.signal });
    setTimeout(() => controller.abort(reason), 50);
    await assert.rejects(asked, reason);
  });
});
