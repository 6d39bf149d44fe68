import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { credentialFor, identityOf } from "./credentials.ts";

const named = (username: string) => ({ username, password: "p" });
const userFor = (credentials: Record<string, { username: string; password: string }>, host: string, repository: string): string | null => {
  const found = credentialFor(credentials, host, repository);
  return found !== null && "username" in found ? found.username : null;
};

suite("whose credentials a registry sees", () => {
  test("those of its host and port, and no other's", () => {
    const credentials = { "r:5000": named("port"), r: named("plain"), "sub.r": named("sub") };
    assert.equal(userFor(credentials, "r:5000", "a"), "port");
    assert.equal(userFor(credentials, "r", "a"), "plain");
    assert.equal(userFor(credentials, "R", "a"), "plain");
    assert.equal(userFor(credentials, "x.sub.r", "a"), null);
    assert.equal(userFor(credentials, "sub.r.evil", "a"), null);
    assert.equal(userFor(credentials, "r:50001", "a"), null);
  });

  test("docker.io has many names", () => {
    for (const key of [
      "docker.io",
      "https://index.docker.io/v1/",
      "index.docker.io",
      "registry-1.docker.io",
      "http://index.docker.io/v1",
    ]) {
      assert.equal(userFor({ [key]: named("anna") }, "docker.io", "library/x"), "anna", key);
    }
    assert.equal(userFor({ "docker.io": named("anna") }, "other", "library/x"), null);
  });

  test("the longest key above the repository wins, by whole parts of its path", () => {
    const credentials = { r: named("host"), "r/team": named("team"), "r/team/app": named("app"), "https://r/v2/": named("slash") };
    assert.equal(userFor(credentials, "r", "team/app"), "app");
    assert.equal(userFor(credentials, "r", "team/application"), "team");
    assert.equal(userFor(credentials, "r", "teams/app"), "host");
  });

  test("who asks is told apart without its secret", () => {
    assert.equal(identityOf(null), "");
    assert.notEqual(identityOf(named("a")), identityOf(named("b")));
    assert.doesNotMatch(identityOf({ username: "a", password: "secret" }), /secret/);
  });
});
