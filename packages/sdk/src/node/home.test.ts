import assert from "node:assert/strict";
import { test } from "node:test";
import { resolveHome } from "./home.ts";

const user = { env: {}, uid: 1000, userHome: "/home/ann", cwd: "/work" };

test("the home is the one asked for, then KILN_HOME, then the default of the user", () => {
  assert.equal(resolveHome({ ...user, home: "/a", env: { KILN_HOME: "/b" } }), "/a");
  assert.equal(resolveHome({ ...user, home: "here/", env: {} }), "/work/here");
  assert.equal(resolveHome({ ...user, env: { KILN_HOME: "/b" } }), "/b");
  assert.equal(resolveHome({ ...user, env: { KILN_HOME: "" } }), "/home/ann/.local/share/kiln");
  assert.equal(resolveHome({ ...user, env: { XDG_DATA_HOME: "/data" } }), "/data/kiln");
  assert.equal(resolveHome({ ...user, env: { XDG_DATA_HOME: "relative" } }), "/home/ann/.local/share/kiln");
  assert.equal(resolveHome({ ...user, uid: 0, env: { XDG_DATA_HOME: "/data" } }), "/var/lib/kiln");
});
