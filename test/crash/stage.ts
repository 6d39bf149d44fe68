/** What the operations of the matrix work with: images on this machine, a registry, and a home that has a kernel and an image. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Digest } from "@kiln/protocol";
import { systemClock } from "@kiln/std";
import { writeLayout } from "../../packages/cli/src/testing/image-files.ts";
import { KernelDirectory } from "../../packages/daemon/src/content/kernel-directory.ts";
import { Apt } from "../../packages/daemon/src/host/apt.ts";
import { KERNEL_FILES, KERNEL_MANIFEST, kernelKey, parseKernelManifest } from "../../packages/daemon/src/kernels/kernel-set.ts";
import { createImage } from "../../packages/daemon/src/registry/testing/pulling.ts";
import { ScriptedRegistry } from "../../packages/daemon/src/registry/testing/scripted-registry.ts";
import { SqliteArtifactStore } from "../../packages/daemon/src/store/artifact-store.ts";
import { Database } from "../../packages/daemon/src/store/database.ts";
import { buildTar } from "../../packages/formats/src/tar/tar-writer.fixture.ts";
import { TestHome } from "../e2e/home.ts";
import { ROOT } from "../fixtures/cache.ts";
import { endProcessesOf } from "./world.ts";

const run = promisify(execFile);

/** The image that a home has from its beginning. */
export const BASE = "base:latest";
/** Each daemon of the matrix runs VMs that are none: all above the driver is the real thing. */
const ENV = { KILN_DRIVER: "fake" };

export interface Stage extends AsyncDisposable {
  /** The directory of everything that the matrix makes. */
  readonly root: string;
  /** `oci:` reference of an image that no home has. */
  readonly layout: string;
  /** The same image as a file for `load`. */
  readonly archive: string;
  /** A file system for `image register`. */
  readonly fileSystem: string;
  /** What `image export` made of BASE. */
  readonly bundle: string;
  /** Two images of a registry. */
  readonly remote: { readonly old: string; readonly fresh: string };
  /** Homes whose daemon does not run. */
  readonly template: string;
  readonly withoutKernel: string;
}

const homeAt = (path: string): TestHome => TestHome.at(path, ENV);

let copies = 0;

/** A copy with its own inodes, under a path that is no other's beginning: processes are known by it. */
export const copyHome = async ({ root }: { readonly root: string }, from: string): Promise<TestHome> => {
  copies += 1;
  const to = join(root, `home-${String(copies).padStart(6, "0")}`);
  await run("cp", ["-a", from, to]);
  return homeAt(to);
};

export const createStage = async (): Promise<Stage> => {
  await using undo = new AsyncDisposableStack();
  const root = await mkdtemp(join(tmpdir(), "kiln-crash-"));
  undo.defer(async () => {
    await endProcessesOf(root);
    await rm(root, { recursive: true, force: true });
  });
  const registry = undo.use(await ScriptedRegistry.start());
  for (const tag of ["old", "fresh"]) registry.serve("tool", tag, createImage([buildTar([{ path: tag, type: "file", content: tag }])]));
  const layoutDir = join(root, "layout");
  await writeLayout(layoutDir, [{ tag: "one", layers: ["one", "two"] }]);
  const baseDir = join(root, "base");
  await writeLayout(baseDir, [{ tag: "base", layers: ["base"] }]);
  const archive = join(root, "images.tar");
  await run("tar", ["-C", layoutDir, "-cf", archive, "."]);
  const fileSystem = join(root, "root.ext4");
  await run("mke2fs", ["-q", "-t", "ext4", "-d", baseDir, fileSystem, "8M"]);
  const withoutKernel = join(root, "without-kernel");
  const bundle = join(root, "base.kiln");
  await prepare(withoutKernel, `oci:${baseDir}:base`, bundle);
  const template = await copyHome({ root }, withoutKernel);
  await addKernel(template);
  const owned = undo.move();
  return {
    ...{ root, archive, fileSystem, bundle, withoutKernel, template: template.path },
    layout: `oci:${layoutDir}:one`,
    remote: { old: `${registry.host}/tool:old`, fresh: `${registry.host}/tool:fresh` },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
};

const prepare = async (path: string, base: string, bundle: string): Promise<void> => {
  const home = homeAt(path);
  await home.ok("pull", base);
  await home.ok("tag", base, BASE);
  await home.ok("rmi", base);
  await home.ok("image", "export", "-o", bundle, BASE);
  await home.ok("daemon", "stop");
};

/** A fake guest boots no kernel, so this one is small: each daemon hashes all of it at its first use. */
export const addKernel = async ({ path }: TestHome): Promise<void> => {
  const kernels = join(path, "kernels");
  const parts = { stagingDir: join(path, "staging"), apt: new Apt({ stagingDir: join(path, "staging"), clock: systemClock }) };
  const sets = new KernelDirectory({ ...parts, directory: kernels, agentPath: join(ROOT, ".cache/agent/kiln-agent"), clock: systemClock });
  const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");
  const made = { name: "linux-image", version: "1", sha256: sha256("a package") };
  const inputs = { packageName: made.name, packageVersion: made.version, packageSha256: made.sha256 };
  const key = kernelKey({ ...inputs, agentSha256: sha256("an agent"), builderVersion: "0" });
  await mkdir(join(kernels, key), { mode: 0o700 });
  for (const name of KERNEL_FILES) await writeFile(join(kernels, key, name), name);
  const files = Object.fromEntries(KERNEL_FILES.map((name) => [name, { sha256: sha256(name), size: name.length }]));
  const none = { boot: [], block: [], overlay: [], net: [], vsock: [], mmio: [] };
  const about = { key, name: "debian-cloud", architecture: "amd64", release: "1", package: made, agentSha256: sha256("an agent") };
  const text = JSON.stringify({ ...about, builderVersion: "0", files, modules: none });
  parseKernelManifest(text, key);
  await writeFile(join(kernels, key, KERNEL_MANIFEST), text);
  using database = new Database(join(path, "kiln.db"));
  new SqliteArtifactStore(database).putKernel({
    ...{ key, name: about.name, version: made.version, source: `deb:${made.name}=${made.version}` },
    builderDigest: await sets.builderDigest(),
    digest: `sha256:${sha256(text)}` as Digest,
    sizeBytes: KERNEL_FILES.join("").length,
    createdAt: new Date(0).toISOString(),
  });
};
