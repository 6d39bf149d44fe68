/** Images: where they come from, their names, and what is in them. */
import assert from "node:assert/strict";
import { copyFile, mkdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { ImageDetails, ImageVerification, ImageView } from "@kiln/protocol";
import { runTool } from "@kiln/std/node";
import { createImage } from "../../../packages/daemon/src/registry/testing/pulling.ts";
import { ScriptedRegistry } from "../../../packages/daemon/src/registry/testing/scripted-registry.ts";
import { buildTar } from "../../../packages/formats/src/tar/tar-writer.fixture.ts";
import { guest, IMAGE, MEMORY, MEMORY_BYTES, shell, SLEEP } from "../guests.ts";
import { isolated, type Scenario, type SharedPlace } from "../scenario.ts";

/** A registry with one image of one file, whose text no other run has. */
const openRegistry = async ({ use, nonce }: SharedPlace): Promise<{ registry: ScriptedRegistry; reference: string }> => {
  const registry = use(await ScriptedRegistry.start());
  registry.serve("tool", "1", createImage([buildTar([{ path: "file", type: "file", content: nonce }])]));
  return { registry, reference: `${registry.host}/tool:1` };
};

const named = async ({ kiln }: SharedPlace, name: string): Promise<ImageView[]> => kiln.json<ImageView[]>("images", name);

/** A VM that has written a line and is stopped. */
const written = async ({ kiln, vm }: SharedPlace, text: string): Promise<string> => {
  const name = vm("writer");
  await kiln.ok("run", "--name", name, ...guest(), ...shell(`echo ${text} > /written`));
  return name;
};

export const IMAGES: readonly Scenario[] = [
  isolated(
    "pull-tag-rmi",
    "pull fetches once, says up to date after that, tag gives a further name, and rmi takes the names away",
    async (place) => {
      const { kiln, image } = place;
      const { registry, reference } = await openRegistry(place);
      assert.match(await kiln.ok("pull", reference), /downloaded/);
      const asked = registry.asked.length;
      assert.match(await kiln.ok("pull", reference), /up to date/);
      assert.equal(registry.asked.slice(asked).filter(({ path }) => path.includes("/blobs/")).length, 0);
      const tag = image("tagged");
      await kiln.ok("tag", reference, tag);
      const [[one], [two]] = [await named(place, reference), await named(place, tag)];
      assert.ok(one !== undefined && one.digest === two?.digest);
      await kiln.ok("rmi", reference);
      assert.deepEqual([(await named(place, reference)).length, (await named(place, tag)).length], [0, 1]);
      await kiln.ok("rmi", tag);
      assert.deepEqual(await named(place, tag), []);
    },
  ),

  isolated("pull-joined", "I1 eight who pull one image at once share one pull, and all succeed", async (place) => {
    const { registry, reference } = await openRegistry(place);
    const outcomes = await Promise.all(Array.from({ length: 8 }, () => place.kiln.run(["pull", "-q", reference])));
    assert.deepEqual(
      outcomes.map(({ code }) => code),
      Array.from({ length: 8 }, () => 0),
    );
    // who came when it was there has only asked whether it still is
    const fetched = registry.lines.filter((line) => line.startsWith("GET") && line.includes("/blobs/"));
    assert.deepEqual([fetched.length, new Set(fetched).size], [2, 2], fetched.join("\n"));
    await place.kiln.ok("rmi", reference);
  }),

  isolated(
    "pull-failures",
    "I15 a registry without the image, one that cuts off, and one that is not there are typed errors that leave nothing",
    async (place) => {
      const { registry, reference } = await openRegistry(place);
      const before = (await place.kiln.json<ImageView[]>("images")).filter(({ reference }) => reference.includes(registry.host)).length;
      await place.kiln.problem({ exit: 1, code: "IMAGE_NOT_FOUND" }, "pull", `${registry.host}/tool:none`);
      registry.script = (asked, honest) => (asked.path.includes("/blobs/") ? { ...honest, body: Buffer.from("other bytes") } : honest);
      const damaged = await place.kiln.run(["--json", "pull", reference]);
      assert.deepEqual([damaged.code, damaged.stdout], [1, ""]);
      await registry.stop();
      await place.kiln.problem({ exit: 1, code: "REGISTRY_UNREACHABLE" }, "pull", reference);
      const after = (await place.kiln.json<ImageView[]>("images")).filter(({ reference }) => reference.includes(registry.host)).length;
      assert.deepEqual([before, after], [0, 0]);
    },
  ),

  isolated("rmi-in-use", "I23 the image of a VM is refused to rmi by the VM's name, and goes when that has gone", async (place) => {
    const { kiln, vm, image } = place;
    const made = image("used");
    await kiln.ok("commit", "-q", await written(place, place.nonce), made);
    const user = vm("user");
    await kiln.ok("create", "--name", user, "-m", MEMORY, made, "--", "busybox", "true");
    const refused = await kiln.problem({ exit: 1, code: "IMAGE_IN_USE" }, "rmi", made);
    assert.ok(refused.detail.includes(user), refused.detail);
    await kiln.ok("rm", user);
    await kiln.ok("rmi", made);
  }),

  isolated("image-verify", "image verify reads an image in full and finds it as it was pulled and built", async ({ kiln }) => {
    const found = await kiln.json<ImageVerification | ImageVerification[]>("image", "verify", IMAGE);
    const [one] = [found].flat();
    assert.equal(one?.ok, true);
    assert.ok(one.blobs.length > 0 && one.blobs.every(({ state }) => state === "whole"));
  }),

  isolated("export-import", "an exported bundle, imported under another name, is the same image and runs", async (place) => {
    const { kiln, scratch, image } = place;
    const bundle = join(scratch, "bundle.kiln");
    const [made, back] = [image("made"), image("back")];
    await kiln.ok("commit", "-q", "--cmd", '["busybox", "cat", "/written"]', await written(place, place.nonce), made);
    await kiln.ok("image", "export", "-o", bundle, made);
    assert.ok((await stat(bundle)).size > 0);
    await kiln.ok("image", "import", bundle, "--name", back);
    assert.equal(await kiln.ok("run", "--rm", "-m", MEMORY, back), `${place.nonce}\n`);
  }),

  isolated("save-load", "an archive that save has written is read by skopeo and by load", async (place) => {
    const { kiln, scratch, image } = place;
    const archive = join(scratch, "image.tar");
    await kiln.ok("save", "-o", archive, IMAGE);
    const { stdout } = await runTool("skopeo", ["inspect", "--config", `oci-archive:${archive}`], { signal: place.signal });
    assert.ok(new TextDecoder().decode(stdout).includes('"rootfs"'));
    const loaded = image("loaded");
    await kiln.ok("load", "-i", archive, "--name", loaded);
    const [[one], [two]] = [await named(place, IMAGE), await named(place, loaded)];
    assert.equal(one?.digest, two?.digest);
  }),

  isolated(
    "promote",
    "promote makes an image of what a stopped VM has written; a running one is refused; the VM is as it was",
    async (place) => {
      const { kiln, vm, image } = place;
      const [name, made] = [vm("source"), image("made")];
      await kiln.ok("run", "-d", "--name", name, ...guest(), ...SLEEP);
      await kiln.ok("exec", name, ...shell(`echo ${place.nonce} > /written`));
      await kiln.problem({ exit: 1, code: "VM_RUNNING" }, "image", "promote", name, "--name", made);
      await kiln.ok("stop", name);
      await kiln.ok("image", "promote", name, "--name", made, "--label", "a=b");
      assert.equal(await kiln.ok("run", "--rm", "-m", MEMORY, made, "--", "busybox", "cat", "/written"), `${place.nonce}\n`);
      const [details] = await kiln.json<ImageDetails[]>("image", "inspect", made);
      assert.equal(details?.config.labels["a"], "b");
      await kiln.ok("start", name);
      assert.equal(await kiln.ok("exec", name, "busybox", "cat", "/written"), `${place.nonce}\n`);
    },
  ),

  isolated(
    "customize",
    "customize makes an image of what commands leave, once for two who ask at once; a command that fails is told",
    async (place) => {
      const { kiln, image, nonce } = place;
      const made = image("made");
      const customize = ["image", "customize", IMAGE, "-m", MEMORY, "--network", "none"];
      const same = [...customize, "--run", `echo ${nonce} > /made; echo said`];
      const outcomes = await Promise.all([kiln.run([...same, "--name", made]), kiln.run([...same, "--name", image("too")])]);
      assert.deepEqual(
        outcomes.map(({ code }) => code),
        [0, 0],
      );
      assert.equal(await kiln.ok("run", "--rm", "-m", MEMORY, made, "--", "busybox", "cat", "/made"), `${nonce}\n`);
      const failed = await kiln.exits(1, [...customize, "--run", "echo last words; exit 7", "--name", image("failed")]);
      assert.match(failed.stderr, /ended with 7/);
      assert.deepEqual(await named(place, image("failed")), []);
    },
  ),

  isolated("register", "an ext4 file system that someone else has made becomes an image, byte for byte, and runs", async (place) => {
    const { kiln, scratch, image } = place;
    const tree = join(scratch, "tree");
    await mkdir(join(tree, "bin"), { recursive: true });
    const { stdout } = await runTool("sh", ["-c", "command -v busybox"], { signal: place.signal });
    await copyFile(new TextDecoder().decode(stdout).trim(), join(tree, "bin/busybox"));
    await writeFile(join(tree, "mine"), place.nonce);
    const file = join(scratch, "root.ext4");
    await runTool("mke2fs", ["-q", "-t", "ext4", "-d", tree, file, "16M"], { signal: place.signal });
    const made = image("mine");
    await kiln.ok("image", "register", file, "--name", made, "--cmd", '["/bin/busybox", "cat", "/mine"]');
    assert.equal(await kiln.ok("run", "--rm", "-m", MEMORY, made), place.nonce);
  }),

  isolated("layout", "an OCI layout in the caller's directory runs, with the command of its config", async (place) => {
    const { kiln, scratch, nonce } = place;
    const archive = join(scratch, "image.tar");
    await kiln.ok("save", "-o", archive, IMAGE);
    await runTool("skopeo", ["copy", "-q", `oci-archive:${archive}`, `oci:${join(scratch, nonce)}:v1`], { signal: place.signal });
    const reference = `oci:./${nonce}:v1`;
    const words = ["run", "--rm", "-m", MEMORY, reference, "--", "busybox", "echo", nonce];
    assert.equal((await kiln.exits(0, words, { cwd: scratch })).stdout, `${nonce}\n`);
    await kiln.ok("rmi", reference);
  }),

  isolated(
    "kernel-warm",
    "kernel ls shows the kernel; warming a shape that is warm is done at once, however many ask",
    async ({ kiln }) => {
      const kernels = await kiln.json<{ name: string }[]>("kernel", "ls");
      assert.deepEqual(
        kernels.map(({ name }) => name),
        ["debian-cloud"],
      );
      const outcomes = await Promise.all([1, 2, 3].map(() => kiln.run(["kernel", "warm", "-m", `${MEMORY_BYTES / 2 ** 20}m`])));
      assert.ok(outcomes.every(({ code }) => code === 0));
    },
  ),
];
