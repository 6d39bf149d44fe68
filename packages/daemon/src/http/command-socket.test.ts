import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { test } from "node:test";
import type { Core } from "../operations/core.ts";
import { createCommandSockets } from "./command-socket.ts";

test("a path that is none of ours or not well-formed is refused, and a client that hangs up disturbs nobody", async () => {
  const server = createServer();
  server.on("upgrade", createCommandSockets({} as Core).upgrade);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const ask = (path: string) => {
    const socket = connect(port, "127.0.0.1");
    socket.write(`GET ${path} HTTP/1.1\r\nhost: kiln\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n`);
    return socket;
  };
  try {
    for (const path of ["/v1/vms/%zz/exec", "/nothing"]) {
      const socket = ask(path);
      const [answer] = (await once(socket, "data")) as [Buffer];
      assert.match(answer.toString(), /^HTTP\/1.1 404 /);
      socket.destroy();
    }
    for (let round = 0; round < 20; round += 1) ask("/nothing").resetAndDestroy();
    await once(ask("/nothing"), "data");
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
