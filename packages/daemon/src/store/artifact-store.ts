import { type EventDraft, KilnError } from "@kiln/protocol";
import { type NameClaim, requireName } from "../images/naming.ts";
import type { ImageRecord, ImageStore, RootfsRecord } from "../images/records.port.ts";
import type { KernelRecord, KernelStore } from "../kernels/records.port.ts";
import type { PrebootRecord, PrebootStore } from "../snapshots/preboot.ts";
import { type Database, declareWrite, type Run, type Tell } from "./database.ts";

const PUT_IMAGE = declareWrite("image.put");
const REMOVE_IMAGE = declareWrite("image.remove");
const REMOVE_UNUSED_IMAGE = declareWrite("image.removeUnused");
const PUT_ROOTFS = declareWrite("rootfs.put");
const FORGET_ROOTFS = declareWrite("rootfs.forget");
const REMOVE_UNUSED_ROOTFS = declareWrite("rootfs.removeUnused");
const PUT_KERNEL = declareWrite("kernel.put");
const FORGET_KERNEL = declareWrite("kernel.forget");

const PUT_PREBOOT = declareWrite("preboot.put");
const FORGET_PREBOOT = declareWrite("preboot.forget");

/** Records that this process wrote itself; their shape is their type. */
const parseRecord = <Kind>(row: Record<string, unknown> | undefined): Kind | null =>
  row === undefined ? null : (JSON.parse(String(row["record"])) as Kind);

/** Homes of the first version have no root: it was the manifest. */
const parseImage = (row: Record<string, unknown> | undefined): ImageRecord | null => {
  const record = parseRecord<Omit<ImageRecord, "root"> & { readonly root?: ImageRecord["root"] }>(row);
  return record === null ? null : { ...record, root: record.root ?? record.image.manifestDigest };
};

export class SqliteArtifactStore implements ImageStore, KernelStore, PrebootStore {
  readonly #database: Database;
  /** What the records say, parsed once: this process is their only writer. */
  readonly #images = new Map<string, ImageRecord>();
  readonly #rootfs = new Map<string, RootfsRecord>();
  #kernels: readonly KernelRecord[] | null = null;

  constructor(database: Database) {
    this.#database = database;
  }

  #list<Kind>(sql: string): Kind[] {
    return this.#database.all(sql).flatMap((row) => parseRecord<Kind>(row) ?? []);
  }

  putImage(record: ImageRecord, { tagOf = null, claim }: { tagOf?: string | null; claim?: NameClaim } = {}): void {
    const before = this.getImage(record.reference);
    this.#images.delete(record.reference);
    this.#database.write(PUT_IMAGE, (run, tell) => {
      if (claim !== undefined) requireName(before, record, claim);
      run(
        "INSERT INTO images (reference, rootfs_key, record) VALUES (?, ?, ?) ON CONFLICT (reference) DO UPDATE SET rootfs_key = excluded.rootfs_key, record = excluded.record",
        ...[record.reference, record.rootfsKey, JSON.stringify(record)],
      );
      if (before?.root !== record.root || before.rootfsKey !== record.rootfsKey) tell(imageEvent(before, record, tagOf));
    });
  }

  getImage(reference: string): ImageRecord | null {
    const known = this.#images.get(reference);
    if (known !== undefined) return known;
    const record = parseImage(this.#database.get("SELECT record FROM images WHERE reference = ?", reference));
    if (record !== null) this.#images.set(reference, record);
    return record;
  }

  listImages(): readonly ImageRecord[] {
    return this.#database.all("SELECT record FROM images ORDER BY rowid DESC").flatMap((row) => parseImage(row) ?? []);
  }

  removeImage(reference: string): void {
    const record = this.getImage(reference);
    this.#images.delete(reference);
    this.#database.write(REMOVE_IMAGE, (run, tell) => {
      if (record === null) throw new KilnError("IMAGE_NOT_FOUND", `there is no image ${reference}`, { object: reference });
      const user = this.#database.get(
        "SELECT name FROM vms WHERE rootfs_key = ?1 AND NOT EXISTS (SELECT 1 FROM images WHERE rootfs_key = ?1 AND reference <> ?2) LIMIT 1",
        ...[record.rootfsKey, reference],
      );
      if (user !== undefined) {
        throw new KilnError("IMAGE_IN_USE", `the image ${reference} is used by the VM ${String(user["name"])}`, { object: reference });
      }
      dropImage({ run, tell }, record, "asked for");
    });
  }

  removeUnusedImage(image: Pick<ImageRecord, "reference" | "root">): boolean {
    const record = this.getImage(image.reference);
    this.#images.delete(image.reference);
    return this.#database.write(REMOVE_UNUSED_IMAGE, (run, tell) => {
      if (record === null || record.root !== image.root || this.isRootfsInUse(record.rootfsKey)) return false;
      return dropImage({ run, tell }, record, "unused");
    });
  }

  putRootfs(record: RootfsRecord): void {
    const values = [record.key, JSON.stringify(record)];
    this.#rootfs.delete(record.key);
    this.#database.write(PUT_ROOTFS, (run, tell) => {
      run("INSERT OR REPLACE INTO rootfs (key, record) VALUES (?, ?)", ...values);
      const data = { id: record.key, digest: record.digest, bytes: record.fingerprint.size };
      tell({ type: "rootfs.built", subject: record.key, data });
    });
  }

  getRootfs(key: string): RootfsRecord | null {
    const known = this.#rootfs.get(key);
    if (known !== undefined) return known;
    const record = parseRecord<RootfsRecord>(this.#database.get("SELECT record FROM rootfs WHERE key = ?", key));
    if (record !== null) this.#rootfs.set(key, record);
    return record;
  }

  listRootfs(): readonly RootfsRecord[] {
    return this.#list<RootfsRecord>("SELECT record FROM rootfs ORDER BY key");
  }

  removeUnusedRootfs(key: string): boolean {
    return this.#database.write(REMOVE_UNUSED_ROOTFS, (run, tell) => {
      const sql =
        "DELETE FROM rootfs WHERE key = ?1 AND NOT EXISTS (SELECT 1 FROM images WHERE rootfs_key = ?1) AND NOT EXISTS (SELECT 1 FROM vms WHERE rootfs_key = ?1)";
      const isGone = run(sql, key) > 0;
      if (!isGone) return false;
      this.#rootfs.delete(key);
      tell({ type: "rootfs.removed", subject: key, data: { id: key, reason: "unused" } });
      return true;
    });
  }

  forgetRootfs(key: string): void {
    this.#rootfs.delete(key);
    this.#database.write(FORGET_ROOTFS, (run, tell) => {
      const data = { id: key, reason: "missing or damaged" };
      if (run("DELETE FROM rootfs WHERE key = ?", key) > 0) tell({ type: "rootfs.removed", subject: key, data });
    });
  }

  isRootfsInUse(key: string): boolean {
    return this.#database.get("SELECT 1 FROM vms WHERE rootfs_key = ? LIMIT 1", key) !== undefined;
  }

  putKernel(record: KernelRecord): void {
    const values = [record.key, record.createdAt, JSON.stringify(record)];
    this.#kernels = null;
    this.#database.write(PUT_KERNEL, (run, tell) => {
      run("INSERT OR REPLACE INTO kernels (key, created_at, record) VALUES (?, ?, ?)", ...values);
      const { key, name, version, digest } = record;
      tell({ type: "kernel.built", subject: name, data: { id: key, version, digest } });
    });
  }

  getKernel(key: string): KernelRecord | null {
    return this.listKernels().find((record) => record.key === key) ?? null;
  }

  listKernels(): readonly KernelRecord[] {
    this.#kernels ??= this.#list<KernelRecord>("SELECT record FROM kernels ORDER BY created_at DESC");
    return this.#kernels;
  }

  forgetKernel(key: string): void {
    const name = this.getKernel(key)?.name ?? key;
    this.#kernels = null;
    this.#database.write(FORGET_KERNEL, (run, tell) => {
      if (run("DELETE FROM kernels WHERE key = ?", key) > 0) tell({ type: "kernel.removed", subject: name, data: { id: key } });
    });
  }

  putPreboot(record: PrebootRecord): void {
    const values = [record.key, record.createdAt, JSON.stringify(record)];
    this.#database.write(PUT_PREBOOT, (run, tell) => {
      run("INSERT OR REPLACE INTO preboots (key, created_at, record) VALUES (?, ?, ?)", ...values);
      const { key, cpus, memoryBytes, diskBytes } = record;
      tell({ type: "preboot.built", subject: key, data: { id: key, cpus, memoryBytes, diskBytes } });
    });
  }

  getPreboot(key: string): PrebootRecord | null {
    return parseRecord<PrebootRecord>(this.#database.get("SELECT record FROM preboots WHERE key = ?", key));
  }

  listPreboots(): readonly PrebootRecord[] {
    return this.#list<PrebootRecord>("SELECT record FROM preboots ORDER BY created_at DESC, key");
  }

  forgetPreboot(key: string, reason: string): void {
    this.#database.write(FORGET_PREBOOT, (run, tell) => {
      if (run("DELETE FROM preboots WHERE key = ?", key) > 0) tell({ type: "preboot.removed", subject: key, data: { id: key, reason } });
    });
  }

  isKernelInUse(key: string): boolean {
    return this.#database.get("SELECT 1 FROM vms WHERE kernel_key = ? LIMIT 1", key) !== undefined;
  }
}

const imageEvent = (before: ImageRecord | null, { reference, image, rootfsKey }: ImageRecord, tagOf: string | null): EventDraft => {
  const data = { id: image.manifestDigest, rootfsKey, before: before?.image.manifestDigest ?? null };
  if (tagOf === null) return { type: "image.recorded", subject: reference, data };
  return { type: "image.tagged", subject: reference, data: { ...data, source: tagOf } };
};

const dropImage = ({ run, tell }: { run: Run; tell: Tell }, { reference, image, rootfsKey }: ImageRecord, reason: string): boolean => {
  const isGone = run("DELETE FROM images WHERE reference = ?", reference) > 0;
  if (isGone) tell({ type: "image.removed", subject: reference, data: { id: image.manifestDigest, rootfsKey, reason } });
  return isGone;
};
