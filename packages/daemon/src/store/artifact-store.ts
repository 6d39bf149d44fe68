import { KilnError } from "@kiln/protocol";
import type { ImageRecord, ImageStore, RootfsRecord } from "../images/records.port.ts";
import type { KernelRecord, KernelStore } from "../kernels/records.port.ts";
import { type Database, declareWrite } from "./database.ts";

const PUT_IMAGE = declareWrite("image.put");
const REMOVE_IMAGE = declareWrite("image.remove");
const REMOVE_UNUSED_IMAGE = declareWrite("image.removeUnused");
const PUT_ROOTFS = declareWrite("rootfs.put");
const FORGET_ROOTFS = declareWrite("rootfs.forget");
const REMOVE_UNUSED_ROOTFS = declareWrite("rootfs.removeUnused");
const PUT_KERNEL = declareWrite("kernel.put");
const FORGET_KERNEL = declareWrite("kernel.forget");

/** Records that this process wrote itself; their shape is their type. */
const parseRecord = <Kind>(row: Record<string, unknown> | undefined): Kind | null =>
  row === undefined ? null : (JSON.parse(String(row["record"])) as Kind);

/** Homes of the first version have no root: it was the manifest. */
const parseImage = (row: Record<string, unknown> | undefined): ImageRecord | null => {
  const record = parseRecord<Omit<ImageRecord, "root"> & { readonly root?: ImageRecord["root"] }>(row);
  return record === null ? null : { ...record, root: record.root ?? record.image.manifestDigest };
};

export class SqliteArtifactStore implements ImageStore, KernelStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  #list<Kind>(sql: string): Kind[] {
    return this.#database.all(sql).flatMap((row) => parseRecord<Kind>(row) ?? []);
  }

  putImage(record: ImageRecord): void {
    this.#database.write(PUT_IMAGE, (run) =>
      run(
        "INSERT INTO images (reference, rootfs_key, record) VALUES (?, ?, ?) ON CONFLICT (reference) DO UPDATE SET rootfs_key = excluded.rootfs_key, record = excluded.record",
        ...[record.reference, record.rootfsKey, JSON.stringify(record)],
      ),
    );
  }

  getImage(reference: string): ImageRecord | null {
    return parseImage(this.#database.get("SELECT record FROM images WHERE reference = ?", reference));
  }

  listImages(): readonly ImageRecord[] {
    return this.#database.all("SELECT record FROM images ORDER BY rowid DESC").flatMap((row) => parseImage(row) ?? []);
  }

  removeImage(reference: string): void {
    this.#database.write(REMOVE_IMAGE, (run) => {
      const record = this.getImage(reference);
      if (record === null) throw new KilnError("IMAGE_NOT_FOUND", `there is no image ${reference}`, { object: reference });
      const user = this.#database.get(
        "SELECT name FROM vms WHERE rootfs_key = ?1 AND NOT EXISTS (SELECT 1 FROM images WHERE rootfs_key = ?1 AND reference <> ?2) LIMIT 1",
        ...[record.rootfsKey, reference],
      );
      if (user !== undefined) {
        throw new KilnError("IMAGE_IN_USE", `the image ${reference} is used by the VM ${String(user["name"])}`, { object: reference });
      }
      run("DELETE FROM images WHERE reference = ?", reference);
    });
  }

  removeUnusedImage(image: Pick<ImageRecord, "reference" | "root">): boolean {
    return this.#database.write(REMOVE_UNUSED_IMAGE, (run) => {
      const record = this.getImage(image.reference);
      if (record === null || record.root !== image.root || this.isRootfsInUse(record.rootfsKey)) return false;
      return run("DELETE FROM images WHERE reference = ?", image.reference) > 0;
    });
  }

  putRootfs(record: RootfsRecord): void {
    const values = [record.key, JSON.stringify(record)];
    this.#database.write(PUT_ROOTFS, (run) => run("INSERT OR REPLACE INTO rootfs (key, record) VALUES (?, ?)", ...values));
  }

  getRootfs(key: string): RootfsRecord | null {
    return parseRecord<RootfsRecord>(this.#database.get("SELECT record FROM rootfs WHERE key = ?", key));
  }

  listRootfs(): readonly RootfsRecord[] {
    return this.#list<RootfsRecord>("SELECT record FROM rootfs ORDER BY key");
  }

  removeUnusedRootfs(key: string): boolean {
    return this.#database.write(
      REMOVE_UNUSED_ROOTFS,
      (run) =>
        run(
          "DELETE FROM rootfs WHERE key = ?1 AND NOT EXISTS (SELECT 1 FROM images WHERE rootfs_key = ?1) AND NOT EXISTS (SELECT 1 FROM vms WHERE rootfs_key = ?1)",
          key,
        ) > 0,
    );
  }

  forgetRootfs(key: string): void {
    this.#database.write(FORGET_ROOTFS, (run) => run("DELETE FROM rootfs WHERE key = ?", key));
  }

  isRootfsInUse(key: string): boolean {
    return this.#database.get("SELECT 1 FROM vms WHERE rootfs_key = ? LIMIT 1", key) !== undefined;
  }

  putKernel(record: KernelRecord): void {
    const values = [record.key, record.createdAt, JSON.stringify(record)];
    this.#database.write(PUT_KERNEL, (run) => run("INSERT OR REPLACE INTO kernels (key, created_at, record) VALUES (?, ?, ?)", ...values));
  }

  getKernel(key: string): KernelRecord | null {
    return parseRecord<KernelRecord>(this.#database.get("SELECT record FROM kernels WHERE key = ?", key));
  }

  listKernels(): readonly KernelRecord[] {
    return this.#list<KernelRecord>("SELECT record FROM kernels ORDER BY created_at DESC");
  }

  forgetKernel(key: string): void {
    this.#database.write(FORGET_KERNEL, (run) => run("DELETE FROM kernels WHERE key = ?", key));
  }

  isKernelInUse(key: string): boolean {
    return this.#database.get("SELECT 1 FROM vms WHERE kernel_key = ? LIMIT 1", key) !== undefined;
  }
}
