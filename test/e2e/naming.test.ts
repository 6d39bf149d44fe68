import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import type { ImageVerification, ImageView } from "@kiln/protocol";
import { writeLayout } from "../../packages/cli/src/testing/image-files.ts";
import { createImage } from "../../packages/daemon/src/registry/testing/pulling.ts";
import { ScriptedRegistry } from "../../packages/daemon/src/registry/testing/scripted-registry.ts";
import { buildTar } from "../../packages/formats/src/tar/tar-writer.fixture.ts";
import { type Outcome, TestHome } from "./home.ts";

const run = promisify(execFile);
const FAKE = { KILN_DRIVER: "fake" };

/** Both publishers have looked what the name leads to before one of them takes it. */
const BARRIER = { KILN_TEST: "1", KILN_FAILPOINT: "image.naming:2=gather" };

const codeOf = ({ code, stderr }: Outcome): string => (code === 0 ? "" : (JSON.parse(stderr) as { code: string }).code);

describe("I3 two processes that publish under one name at once", () => {
  let scratch: string;
  let home: TestHome;
  let registry: ScriptedRegistry;
  const at = (name: string): string => join(scratch, name);

  before(async () => {
    scratch = await mkdtemp(join(tmpdir(), "kiln-naming-"));
    home = await TestHome.create("", FAKE);
    registry = await ScriptedRegistry.start();
    registry.serve("tool", "raced", createImage([buildTar([{ path: "remote", type: "file", content: "remote" }])]));
    for (const one of ["a", "b"]) {
      await writeLayout(at(one), [{ tag: one, layers: [one] }]);
      await run("tar", ["-C", at(one), "-cf", at(`${one}.tar`), "."]);
      await mkdir(at(`tree-${one}`));
      await writeFile(join(at(`tree-${one}`), one), one);
      await run("mke2fs", ["-q", "-t", "ext4", "-d", at(`tree-${one}`), at(`${one}.ext4`), "8M"]);
      await home.ok("load", "-i", at(`${one}.tar`), "--name", `source:${one}`);
      await home.ok("image", "register", at(`${one}.ext4`), "--name", `registered:${one}`);
      await home.ok("image", "export", "-o", at(`${one}.kiln`), `registered:${one}`);
    }
    await home.ok("daemon", "stop");
  });
  after(async () => {
    await home[Symbol.asyncDispose]();
    await registry[Symbol.asyncDispose]();
    await rm(scratch, { recursive: true });
  });

  const named = async (name: string): Promise<ImageView | undefined> =>
    (await home.json<ImageView[]>("images")).find(({ reference }) => reference.endsWith(name));

  /** Runs both against a daemon that holds them before the name. */
  const race = async (...commands: readonly (readonly string[])[]): Promise<string[]> => {
    await home.ok("daemon", "stop");
    await home.kiln(["daemon", "start"], { env: BARRIER });
    const outcomes = await Promise.all(commands.map((command) => home.kiln([...command, "--json"])));
    return outcomes.map(codeOf).toSorted();
  };

  /** The winner's bytes, all of them. */
  const requireWhole = async (name: string): Promise<void> => {
    const found = await home.json<ImageVerification>("image", "verify", name);
    assert.equal([found].flat()[0]?.ok, true, JSON.stringify(found));
  };

  const COMMANDS: Readonly<Record<string, (one: "a" | "b", name: string) => readonly string[]>> = {
    load: (one, name) => ["load", "-i", at(`${one}.tar`), "--name", name],
    tag: (one, name) => ["tag", `source:${one}`, name],
    register: (one, name) => ["image", "register", at(`${one}.ext4`), "--name", name],
    import: (one, name) => ["image", "import", at(`${one}.kiln`), "--name", name],
  };

  for (const [what, command] of Object.entries(COMMANDS)) {
    test(`I3 by ${what}: of other content one wins, and the other is told; of the same content both succeed`, async () => {
      const [name, same] = [`${what}:raced`, `${what}:same`];
      assert.deepEqual(await race(command("a", name), command("b", name)), ["", "IMAGE_NAME_CONFLICT"]);
      await requireWhole(name);
      assert.deepEqual(await race(command("a", same), command("a", same)), ["", ""]);
      await requireWhole(same);
    });
  }

  test("I3 by pull, against a tag: one wins, and the other is told", async () => {
    const name = `${registry.host}/tool:raced`;
    assert.deepEqual(await race(["pull", name], ["tag", "source:a", name]), ["", "IMAGE_NAME_CONFLICT"]);
    await requireWhole(name);
  });

  test("I3 of two that may replace what they saw, one does", async () => {
    const name = "replaced:1";
    await home.ok("tag", "source:a", name);
    const outcomes = await race(
      ["image", "register", at("a.ext4"), "--name", name, "--replace"],
      ["image", "import", at("b.kiln"), "--name", name, "--replace"],
    );
    assert.deepEqual(outcomes, ["", "IMAGE_NAME_CONFLICT"]);
    await requireWhole(name);
    assert.notEqual((await named("source:a"))?.digest, (await named(name))?.digest);
  });
});
