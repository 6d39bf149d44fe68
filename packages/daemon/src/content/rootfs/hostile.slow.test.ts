import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { suite, test } from "node:test";
import { buildTar, type TarSpec } from "../../../../formats/src/tar/tar-writer.fixture.ts";
import { buildApart, FILES_A_DIRECTORY, tarOfFiles } from "./many-entries.fixture.ts";

const timeout = 300_000;
/** `npm run soak -- entries` has the millions. */
const FILES = 250_000;
const MAX_MIB = 250;

suite("very many entries", () => {
  test("hundreds of thousands become a clean image, in memory that scales to millions", { timeout }, async () => {
    const look = (target: string): void => assert.equal(spawnSync("e2fsck", ["-fn", target]).status, 0, "e2fsck");
    const outcome = await buildApart(() => tarOfFiles(FILES), { look });
    assert.equal(outcome.inodes, FILES + FILES / FILES_A_DIRECTORY + 1, JSON.stringify(outcome));
    assert.ok(outcome.peakMib < MAX_MIB, `${outcome.peakMib} MiB`);
  });

  test("one entry more than the limit is a typed error in bounded memory", { timeout }, async () => {
    const outcome = await buildApart(() => tarOfFiles(FILES + 1), { limits: { maxEntries: FILES } });
    assert.equal(outcome.code, "ROOTFS_TOO_LARGE");
    assert.match(outcome.message ?? "", new RegExp(`more than ${FILES} entries`));
    assert.ok(outcome.peakMib < MAX_MIB, `${outcome.peakMib} MiB`);
  });

  test("symlinks that make each path a long way are a typed error, and soon", { timeout }, async () => {
    const symlink = (path: string, link: string): TarSpec => ({ path, type: "symlink", link });
    const links = Array.from({ length: 39 }, (_, index) => symlink(`l${index + 1}`, `${"./d/../".repeat(500)}l${index}`));
    const files = Array.from({ length: 20_000 }, (_, index): TarSpec => ({ path: `l39/f${index}` }));
    const tar = buildTar([{ path: "d", type: "directory" }, symlink("l0", "d"), ...links, ...files]);
    const outcome = await buildApart(() => [tar]);
    assert.equal(outcome.code, "LAYER_INVALID");
    assert.match(outcome.message ?? "", /symlinks add more than 100000000 names/);
  });
});
