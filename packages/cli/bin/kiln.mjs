#!/usr/bin/env -S node --
// The entry of the command line. Nothing is imported before the compile cache is on: it saves most of a start.
import { accessSync, constants } from "node:fs";
import { enableCompileCache } from "node:module";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** @param {string} path */
const isWritable = (path) => {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false; // a checkout of another user: the user's own cache serves
  }
};

const checkoutCache = fileURLToPath(new URL("../../../.cache/", import.meta.url));
const userCache = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "kiln");
enableCompileCache(join(isWritable(checkoutCache) ? checkoutCache : userCache, "compile"));

const { runProcess } = await import("../src/main.ts");
await runProcess();
