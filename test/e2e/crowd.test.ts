/** Many processes at one daemon at once; its figures are `npm run bench -- load`. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "node:test";
import { TestHome, waitUntil } from "./home.ts";

const CROWD = 1_000;
const LONGEST_MS = 10_000;

test("a thousand clients that connect while the daemon computes are kept waiting, and none is turned away", async (t) => {
  const most = Number(await readFile("/proc/sys/net/core/somaxconn", "utf8"));
  if (most < CROWD) return t.skip(`this host lets ${most} wait at a socket`);
  await using home = await TestHome.create("", { KILN_DRIVER: "fake" });
  await home.ok("daemon", "start");
  const pid = await home.daemonPid();
  const ends: string[] = [];
  const sockets: Socket[] = [];
  process.kill(pid, "SIGSTOP"); // as if it computed and took nobody in
  try {
    for (let client = 0; client < CROWD; client += 1) {
      const socket = connect(join(home.path, "kiln.sock"));
      socket.once("connect", () => ends.push("connected"));
      socket.on("error", (error) => ends.push(error.message));
      sockets.push(socket);
    }
    await Promise.race([waitUntil(async () => ends.length === CROWD, "the crowd"), sleep(LONGEST_MS, undefined, { ref: false })]);
    assert.deepEqual([...new Set(ends)], ["connected"]);
    assert.equal(ends.length, CROWD);
  } finally {
    process.kill(pid, "SIGCONT");
    for (const socket of sockets) socket.destroy();
  }
});
