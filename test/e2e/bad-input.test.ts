import assert from "node:assert/strict";
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { TestHome } from "./home.ts";

const IMAGE = "deb:busybox-static";

interface Problem {
  readonly code: string;
  readonly hint: string;
}

describe("bad input is a typed error with a hint and the pinned exit code", () => {
  let home: TestHome;
  before(async () => {
    home = await TestHome.warm({ memory: "512m", image: IMAGE });
  });
  after(() => home[Symbol.asyncDispose]());

  /** Runs with --json and expects an empty stdout and one problem document on stderr. */
  const refused = async (code: number, ...args: string[]): Promise<Problem> => {
    const outcome = await home.kiln(args);
    assert.equal(outcome.code, code, `kiln ${args.join(" ")}: ${outcome.stderr}`);
    assert.equal(outcome.stdout, "");
    const problem = JSON.parse(outcome.stderr.trim()) as Problem;
    assert.ok(problem.hint.length > 0);
    return problem;
  };

  test("a bad flag is a usage error", async () => {
    assert.equal((await home.kiln(["run", "--no-such-flag"])).code, 2);
    assert.equal((await home.kiln(["no-such-command"])).code, 2);
    assert.equal((await home.kiln(["run", "--memory", "lots", IMAGE])).code, 2);
  });

  test("what is no image, no layout, no package or no directory says so", async () => {
    const empty = await mkdtemp(join(tmpdir(), "kiln-empty-"));
    try {
      assert.equal((await refused(125, "run", "--json", "deb:No_Such!")).code, "REFERENCE_INVALID");
      assert.equal((await refused(125, "run", "--json", "deb:no-such-package-at-all")).code, "PACKAGE_NOT_FOUND");
      assert.equal((await refused(125, "run", "--json", `oci:${empty}/missing`)).code, "IMAGE_SOURCE_MISSING");
      assert.equal((await refused(125, "run", "--json", `oci:${empty}`)).code, "IMAGE_INVALID");
      await writeFile(join(empty, "index.json"), '{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"sha256:00","size":-1}]}');
      await writeFile(join(empty, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
      assert.equal((await refused(125, "run", "--json", `oci:${empty}`)).code, "IMAGE_INVALID");
    } finally {
      await rm(empty, { recursive: true });
    }
  });

  test("what is not there is named", async () => {
    assert.equal((await refused(1, "inspect", "--json", "nobody")).code, "VM_NOT_FOUND");
    assert.equal((await refused(125, "exec", "--json", "nobody", "--", "true")).code, "VM_NOT_FOUND");
  });

  test("a command that the image lacks is 127, one that is no program is 126, and no VM is left", async () => {
    assert.equal((await home.kiln(["run", "--rm", IMAGE, "--", "no-such-command"])).code, 127);
    assert.equal((await home.kiln(["run", "--rm", IMAGE, "--", "/bin"])).code, 126);
    assert.equal((await home.kiln(["run", "--rm", "-u", "nobody-here", IMAGE, "--", "busybox", "true"])).code, 126);
    assert.deepEqual(await home.json("ps", "-a"), []);
  });

  test("a name is taken once", async () => {
    await home.ok("create", "--name", "taken", IMAGE, "--", "busybox", "true");
    assert.equal((await refused(1, "create", "--json", "--name", "taken", IMAGE)).code, "VM_NAME_TAKEN");
    await home.ok("rm", "taken");
  });

  test("I22 deleting twice says that it is gone, and -f of nothing says the same", async () => {
    await home.ok("create", "--name", "once", IMAGE, "--", "busybox", "true");
    await home.ok("rm", "once");
    assert.equal((await home.kiln(["rm", "once"])).code, 1);
  });

  test("a VM that dies while it runs is failed or killed, and its home stays usable", async () => {
    await home.ok("run", "-d", "--idle", "--name", "victim", IMAGE);
    const [vm] = await home.json<{ pid: number }[]>("ps");
    assert.ok(vm);
    process.kill(vm.pid, "SIGKILL");
    await home.kiln(["wait", "victim"]);
    const [after] = await home.json<{ state: string; error: { code: string } | null }[]>("ps", "-a");
    assert.equal(after?.state, "failed");
    assert.equal(after?.error?.code, "VM_DIED");
    await home.ok("start", "victim");
    assert.equal(await home.ok("exec", "victim", "--", "busybox", "echo", "back"), "back\n");
    await home.ok("rm", "-f", "victim");
  });

  test("I39 a second daemon on one home says who holds it, and harms nothing", async () => {
    const pid = await home.daemonPid();
    const outcome = await home.kiln(["daemon", "start"]);
    assert.equal(outcome.code, 0);
    assert.equal(await home.daemonPid(), pid);
  });

  test("I38 a home that is a file or somebody's directory is refused", async () => {
    const scratch = await mkdtemp(join(tmpdir(), "kiln-homes-"));
    try {
      await writeFile(join(scratch, "file"), "");
      assert.equal((await home.kiln(["ps", "--home", join(scratch, "file")])).code, 1);
      await mkdir(join(scratch, "theirs"));
      await writeFile(join(scratch, "theirs/precious"), "");
      await chmod(join(scratch, "theirs"), 0o755);
      const outcome = await home.kiln(["ps", "--json", "--home", join(scratch, "theirs")]);
      assert.equal(outcome.code, 1);
      assert.equal((JSON.parse(outcome.stderr.trim()) as Problem).code, "HOME_INVALID");
    } finally {
      await rm(scratch, { recursive: true });
    }
  });
});
