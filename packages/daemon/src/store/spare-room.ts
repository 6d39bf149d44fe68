import { statSync } from "node:fs";
import type { DatabaseSync } from "node:sqlite";
import { STORE_LIMITS } from "./limits.ts";

/**
 * Takes room on the disk ahead, for what has to be written down when it is full: how a VM ended, what a failed start gives
 * back. SQLite uses free pages of its file, and what its log of writes has already, before it asks for more (sqlite.org/wal.html).
 * Where there is no room even now, there is none ahead.
 */
export const takeSpareRoom = (connection: DatabaseSync, path: string): void => {
  try {
    const free = pragma(connection, "freelist_count") * pragma(connection, "page_size");
    const isRoomy = free >= STORE_LIMITS.spareBytes / 2;
    if (isRoomy && logBytes(path) >= STORE_LIMITS.spareBytes) return;
    connection.exec(`CREATE TABLE spare AS SELECT zeroblob(${STORE_LIMITS.spareBytes}) AS room; DROP TABLE spare`);
    if (!isRoomy) connection.exec("PRAGMA wal_checkpoint(PASSIVE)");
  } catch (error) {
    if (!isOutOfRoom(error)) throw error;
    connection.exec("DROP TABLE IF EXISTS spare");
  }
};

const pragma = (connection: DatabaseSync, name: string): number => Number(connection.prepare(`PRAGMA ${name}`).get()?.[name] ?? 0);

const logBytes = (path: string): number => statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0;

/** SQLITE_FULL and SQLITE_IOERR in the low byte of the extended code (sqlite.org/rescode.html). */
const OUT_OF_ROOM: ReadonlySet<number> = new Set([13, 10]);

const isOutOfRoom = (error: unknown): boolean =>
  error instanceof Error && "errcode" in error && typeof error.errcode === "number" && OUT_OF_ROOM.has(error.errcode & 0xff);
