import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { startRegistry } from "../../../../test/fixtures/registry.ts";
import { inspect, skopeo, writeLayout } from "../testing/image-files.ts";
import { kiln } from "../testing/kiln-process.ts";

test("a registry that wants a password gets the caller's, from the file that skopeo writes", { timeout: 120_000 }, async () => {
  const root = await mkdtemp(join(tmpdir(), "kiln-login-"));
  const home = join(root, "home");
  const run = (...argv: string[]) =>
    kiln(argv, { home, cwd: root, env: { KILN_DRIVER: "fake", REGISTRY_AUTH_FILE: join(root, "auth.json") } });
  try {
    await mkdir(home, { mode: 0o700 });
    await using registry = await startRegistry({ auth: { username: "ann", password: "pass:word" } });
    const image = `${registry.host}/team/tool:1`;
    await writeLayout(join(root, "layout"), [{ tag: "x", layers: ["hello"] }]);
    await skopeo(root, "copy", "--dest-tls-verify=false", "--dest-creds", "ann:pass:word", "oci:layout:x", `docker://${image}`);

    const refused = await run("pull", "--json", image);
    assert.equal((JSON.parse(refused.stderr) as { code: string }).code, "REGISTRY_UNAUTHORIZED", refused.stderr);
    const login = ["login", "--authfile", "auth.json", "--tls-verify=false", "-u", "ann", "-p", "pass:word", registry.host];
    await skopeo(root, ...login);
    const pulled = await run("pull", image);
    assert.equal(pulled.exitCode, 0, pulled.stderr);
    assert.match(pulled.stdout, /\n {2}downloaded\n$/);
    assert.match((await run("pull", image)).stdout, /\n {2}up to date\n$/);

    assert.equal((await run("save", "-o", "saved.tar", image)).exitCode, 0);
    await skopeo(root, "copy", `oci-archive:saved.tar:${image}`, "oci:copied:x");
    assert.deepEqual(await inspect(root, "oci:copied:x"), await inspect(root, "oci:layout:x"));
    await writeFile(join(root, "auth.json"), `{"auths":{"${registry.host}":{"auth":"!"}}}`);
    const broken = await run("pull", "--json", image);
    assert.equal((JSON.parse(broken.stderr) as { code: string }).code, "REGISTRY_CREDENTIALS_INVALID");
  } finally {
    await run("daemon", "stop");
    await rm(root, { recursive: true });
  }
});
