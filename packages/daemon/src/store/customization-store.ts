import type { CustomizationRecord, CustomizationStore } from "../images/promotion.port.ts";
import { type Database, declareWrite } from "./database.ts";
import { STORE_LIMITS } from "./limits.ts";

const PUT_CUSTOMIZATION = declareWrite("customization.put");

export class SqliteCustomizationStore implements CustomizationStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  getCustomization(key: string): CustomizationRecord | null {
    const row = this.#database.get("SELECT manifest, created_at FROM customizations WHERE key = ?", key);
    return row === undefined ? null : { key, manifest: String(row["manifest"]), createdAt: String(row["created_at"]) };
  }

  putCustomization({ key, manifest, createdAt }: CustomizationRecord): void {
    this.#database.write(PUT_CUSTOMIZATION, (run) => {
      run("INSERT OR REPLACE INTO customizations (key, manifest, created_at) VALUES (?, ?, ?)", key, manifest, createdAt);
      run(
        "DELETE FROM customizations WHERE key NOT IN (SELECT key FROM customizations ORDER BY created_at DESC, key LIMIT ?)",
        STORE_LIMITS.customizations,
      );
    });
  }
}
