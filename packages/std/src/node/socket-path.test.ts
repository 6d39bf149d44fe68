import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { describe, it } from "node:test";
import { longSocketPath } from "./index.ts";
import { scratchDirectory } from "./scratch.fixture.ts";

describe("a socket path", () => {
  it("of a home with 200 characters and spaces can be bound and connected to", async () => {
    await using scratch = await scratchDirectory();
    const home = join(scratch.path, "a home with spaces".padEnd(100, " é"), "and more".padEnd(100, " of it"));
    mkdirSync(home, { recursive: true });
    const target = join(home, "kiln.sock");
    const server = createServer((socket) => socket.end("hello"));
    const bound = longSocketPath(target);
    assert.match(bound.path, /^\/proc\/self\/fd\/\d+\/kiln\.sock$/);
    server.listen(bound.path);
    await once(server, "listening");
    assert.ok(existsSync(target));
    const reached = longSocketPath(target);
    const client = connect(reached.path);
    const said: unknown[] = await once(client, "data");
    assert.equal(String(said[0]), "hello");
    reached[Symbol.dispose]();
    client.destroy();
    server.close();
    await once(server, "close");
    bound[Symbol.dispose]();
    assert.equal(existsSync(target), false);
  });

  it("of up to 107 bytes is used as it is", () => {
    const path = `/${"x".repeat(106)}`;
    using short = longSocketPath(path);
    assert.equal(short.path, path);
  });

  it("keeps no descriptor after it is disposed of or refused", async () => {
    await using scratch = await scratchDirectory();
    const long = join(scratch.path, "d".repeat(120));
    mkdirSync(long);
    const open = () => readdirSync("/proc/self/fd").length;
    const before = open();
    const path = longSocketPath(join(long, "s"));
    path[Symbol.dispose]();
    path[Symbol.dispose]();
    assert.throws(() => longSocketPath(join(long, "s".repeat(100))), RangeError);
    assert.throws(() => longSocketPath(join(long, "missing", "s")), { code: "ENOENT" });
    assert.equal(open(), before);
  });
});
