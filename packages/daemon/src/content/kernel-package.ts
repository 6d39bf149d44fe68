import { type RawName, TarError, TarParser, type TarEntry, type TarVisitor } from "@kiln/formats/tar";
import { KilnError } from "@kiln/protocol";

/** The files of a kernel package that a set is made from. */
export interface KernelPackage {
  /** As `uname -r` prints it. */
  readonly release: string;
  readonly bzImage: Uint8Array;
  /** Below /lib/modules/RELEASE, by path: "kernel/fs/overlayfs/overlay.ko", "modules.builtin". */
  readonly moduleFiles: ReadonlyMap<string, Uint8Array>;
}

/** The cloud kernel's files are 90 MB; the generic one's 400. */
const MAX_BYTES = 2 ** 30;

const BZ_IMAGE = /^boot\/vmlinuz-([^/]+)$/;
const MODULE_FILE = /^(?:usr\/)?lib\/modules\/([^/]+)\/(.+)$/;

/** Reads the tar of a kernel package. Throws KERNEL_INVALID. */
export const readKernelPackage = async (tar: AsyncIterable<Uint8Array>, name: string): Promise<KernelPackage> => {
  const files = new PackageFiles();
  const parser = new TarParser(files);
  try {
    for await (const chunk of tar) parser.write(chunk);
    parser.end();
    return files.finish();
  } catch (error) {
    if (error instanceof TarError || error instanceof PackageShapeError) {
      throw new KilnError("KERNEL_INVALID", `the kernel package ${name} cannot be used: ${error.message}`, { cause: error, object: name });
    }
    throw error;
  }
};

class PackageShapeError extends Error {
  override readonly name = "PackageShapeError";
}

class PackageFiles implements TarVisitor {
  readonly #moduleFiles = new Map<string, Uint8Array>();
  readonly #bzImages = new Map<string, Uint8Array>();
  readonly #releases = new Set<string>();
  #total = 0;
  #bytes = new Uint8Array();
  #at = 0;
  #store: (bytes: Uint8Array) => void = () => undefined;

  entry(entry: TarEntry): boolean {
    if (entry.type !== "file") return false;
    const store = this.#placeOf(entry.path);
    if (store === null) return false;
    this.#total += entry.sizeBytes;
    if (this.#total > MAX_BYTES) throw new PackageShapeError(`it unpacks to more than ${MAX_BYTES} bytes`);
    this.#store = store;
    this.#bytes = new Uint8Array(entry.sizeBytes);
    this.#at = 0;
    return true;
  }

  data(bytes: Uint8Array): void {
    this.#bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  hole(lengthBytes: number): void {
    this.#at += lengthBytes;
  }

  end(): void {
    this.#store(this.#bytes);
  }

  finish(): KernelPackage {
    const [found] = this.#bzImages;
    if (found === undefined || this.#bzImages.size !== 1) throw new PackageShapeError(`it has ${this.#bzImages.size} kernels`);
    const [release, bzImage] = found;
    if (this.#releases.size !== 1 || !this.#releases.has(release)) throw new PackageShapeError(`its modules are not those of ${release}`);
    return { release, bzImage, moduleFiles: this.#moduleFiles };
  }

  #placeOf(path: RawName): ((bytes: Uint8Array) => void) | null {
    const clean = path.replace(/^\.\//, "");
    const [, imageRelease] = BZ_IMAGE.exec(clean) ?? [];
    if (imageRelease !== undefined) return (bytes) => this.#bzImages.set(imageRelease, bytes);
    const [, release, name] = MODULE_FILE.exec(clean) ?? [];
    if (release === undefined || name === undefined) return null;
    if (name.split("/").includes("..")) throw new PackageShapeError(`it has a file at ${JSON.stringify(path)}`);
    this.#releases.add(release);
    return (bytes) => this.#moduleFiles.set(name, bytes);
  }
}
