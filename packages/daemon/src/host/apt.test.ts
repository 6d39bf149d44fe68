import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { systemClock } from "@kiln/std";
import { Apt, type AptSession } from "./apt.ts";

const signal = AbortSignal.timeout(300_000);

const withApt = async (run: (apt: Apt) => Promise<void>): Promise<void> => {
  const home = await mkdtemp(join(tmpdir(), "kiln apt "));
  const stagingDir = join(home, "staging");
  try {
    await run(new Apt({ stagingDir, clock: systemClock }));
    assert.deepEqual(await readdir(stagingDir), [], "nothing is left");
  } finally {
    await rm(home, { recursive: true });
  }
};

const named = (...names: string[]) => names.map((name) => ({ name, version: null }));

/** A session reads apt's lists once for all that is asked in it. */
suite("a session", () => {
  let apt: Apt;
  let session: AptSession;
  let home = "";
  before(async () => {
    home = await mkdtemp(join(tmpdir(), "kiln apt "));
    apt = new Apt({ stagingDir: join(home, "staging"), clock: systemClock });
    session = await apt.open({ signal });
  });
  after(async () => {
    await session[Symbol.asyncDispose]();
    const left = await readdir(join(home, "staging"));
    await rm(home, { recursive: true });
    assert.deepEqual(left, [], "nothing is left");
  });

  test("a static package is resolved to itself alone, downloaded, and is what the signed lists say", async () => {
    const resolved = await session.resolve({ packages: named("busybox-static"), essential: false }, { signal });
    assert.deepEqual(
      resolved.map((one) => one.name),
      ["busybox-static"],
    );
    const [downloaded] = await session.download(resolved, { signal });
    assert.ok(downloaded);
    const [{ version }] = [downloaded];
    const facts = await session.describe({ name: "busybox-static", version }, { signal });
    assert.equal(
      facts.sha256,
      createHash("sha256")
        .update(await readFile(downloaded.path))
        .digest("hex"),
    );
  });

  test("dependencies come along, sorted by name, without what is only recommended", async () => {
    const names = (await session.resolve({ packages: named("hello"), essential: false }, { signal })).map((one) => one.name);
    assert.ok(names.includes("libc6") && names.includes("hello"), names.join());
    assert.deepEqual(names, [...names].sort());
    assert.ok(!names.includes("bash"));
  });

  test("with essential packages there is a shell", async () => {
    const names = (await session.resolve({ packages: named("busybox-static"), essential: true }, { signal })).map((one) => one.name);
    for (const name of ["bash", "busybox-static", "coreutils", "dpkg"]) assert.ok(names.includes(name), name);
  });

  test("a package or version that is not there is named", async () => {
    const resolve = (name: string, version: string | null) =>
      session.resolve({ packages: [{ name, version }], essential: false }, { signal });
    await assert.rejects(resolve("no-such-package-kiln", null), { code: "PACKAGE_NOT_FOUND", object: "no-such-package-kiln" });
    await assert.rejects(resolve("busybox-static", "0.1"), { code: "PACKAGE_NOT_FOUND", message: /0\.1.*busybox-static/ });
    await assert.rejects(session.describe({ name: "no-such-package-kiln", version: null }, { signal }), { code: "PACKAGE_NOT_FOUND" });
  });

  test("names that apt would take for patterns, removals or options are not packages", async () => {
    const resolve = (name: string) => session.resolve({ packages: [{ name, version: null }], essential: false }, { signal });
    for (const name of ["busybox.stati", "busybox-static-", "busybox-static+"])
      await assert.rejects(resolve(name), { code: "PACKAGE_NOT_FOUND" }, name);
    for (const name of ["-o", "--version", "?essential", "a", "busybox static", "busybox-static/sid", "Busybox"]) {
      await assert.rejects(resolve(name), { code: "REFERENCE_INVALID" }, name);
    }
  });
});

suite("apt", () => {
  test(
    "I1 a host without lists fetches them once for all who ask, where it may",
    { skip: process.getuid?.() === 0 ? false : "needs root" },
    async () => {
      const home = await mkdtemp(join(tmpdir(), "kiln apt lists "));
      const lists = join(home, "lists");
      await mkdir(join(lists, "partial"), { recursive: true });
      await writeFile(join(home, "apt.conf"), `Dir::State::lists "${lists}/";\n`);
      const before = process.env["APT_CONFIG"];
      process.env["APT_CONFIG"] = join(home, "apt.conf");
      try {
        await withApt(async (apt) => {
          const resolve = async (): Promise<number> => {
            await using session = await apt.open({ signal });
            return (await session.resolve({ packages: named("busybox-static"), essential: false }, { signal })).length;
          };
          assert.deepEqual(await Promise.all([resolve(), resolve()]), [1, 1]);
        });
        assert.ok((await readdir(lists)).some((name) => name.includes("_Packages")));
      } finally {
        if (before === undefined) delete process.env["APT_CONFIG"];
        else process.env["APT_CONFIG"] = before;
        await rm(home, { recursive: true });
      }
    },
  );

  test("I2 two downloads at once do not wait for each other's lock", () =>
    withApt(async (apt) => {
      const fetch = async (name: string): Promise<string[]> => {
        await using session = await apt.open({ signal });
        const resolved = await session.resolve({ packages: named(name), essential: false }, { signal });
        return (await session.download(resolved, { signal })).map((one) => one.name);
      };
      const [one, two] = await Promise.all([fetch("busybox-static"), fetch("hello")]);
      assert.deepEqual(one, ["busybox-static"]);
      assert.ok(two.includes("hello"));
    }));

  test("I11 a caller that leaves stops the download and its directory goes", () =>
    withApt(async (apt) => {
      const abort = new AbortController();
      const left = (async () => {
        await using session = await apt.open({ signal: abort.signal });
        setTimeout(() => abort.abort(new Error("left")), 50);
        await session.resolve({ packages: named("hello"), essential: true }, { signal: abort.signal });
      })();
      await assert.rejects(left, { message: "left" });
    }));
});
