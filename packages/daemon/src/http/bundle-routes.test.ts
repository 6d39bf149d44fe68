import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage, request } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { getRequestListener } from "@hono/node-server";
import { KilnError } from "@kiln/protocol";
import { systemClock } from "@kiln/std";
import { ContentLeases } from "../images/leases.ts";
import { createApp } from "./app.ts";
import type { ApiParts } from "./parts.ts";

const KEY = "a".repeat(64);
const image = { reference: "docker.io/library/mine:1", rootfsKey: KEY };
const MIB = 2 ** 20;

/** The route on a real server, over a bundle of these pieces. */
const serve = async (write: ApiParts["bundles"]["write"]) => {
  const leases = new ContentLeases(systemClock);
  const logged: string[] = [];
  const journal = { info: () => undefined, warn: () => undefined, error: (_: object, message: string) => void logged.push(message) };
  const images = { getImage: () => image, listImages: () => [image], getRootfs: () => ({ key: KEY }) };
  const core = { journal, leases, images };
  const app = createApp({ core, bundles: { write } } as unknown as ApiParts);
  const answer = getRequestListener(app.fetch, { overrideGlobalObjects: false });
  const server = createServer((incoming, outgoing) => void answer(incoming, outgoing)).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const ask = async (method = "GET"): Promise<IncomingMessage> => {
    const asked = request({ host: "127.0.0.1", port, path: "/v1/bundles/mine%3A1", method }).end();
    return ((await once(asked, "response")) as [IncomingMessage])[0];
  };
  const ended = async (): Promise<void> => {
    for (const deadline = Date.now() + 60_000; leases.active > 0;) {
      assert.ok(Date.now() < deadline, "its lease has not ended");
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return { ask, ended, leases, logged, [Symbol.asyncDispose]: close };
};

test("a bundle is sent whole, and its rootfs is held until then", async () => {
  let held = false;
  await using served = await serve(async function* () {
    yield Buffer.from("one ");
    held = served.leases.isHeld(KEY);
    yield Buffer.from("two");
  });
  const answer = await served.ask();
  assert.equal(answer.headers["content-type"], "application/zstd");
  assert.equal(await text(answer), "one two");
  assert.ok(held);
  await served.ended();
  assert.deepEqual(served.logged, []);
});

test("a bundle that fails in the middle has no end: nobody takes what came of it for all", async () => {
  await using served = await serve(async function* () {
    yield Buffer.alloc(MIB);
    throw new KilnError("ARTIFACT_DAMAGED", "the rootfs became shorter");
  });
  await assert.rejects(text(await served.ask()), { code: "ECONNRESET" });
  await served.ended();
  assert.deepEqual(served.logged, ["a stream broke off"]);
});

test("a bundle that fails at its beginning is answered with its error", async () => {
  await using served = await serve(async function* () {
    yield* [];
    throw new KilnError("ARTIFACT_DAMAGED", "the rootfs reads as another");
  });
  const answer = await served.ask();
  assert.notEqual(answer.statusCode, 200);
  assert.match(await text(answer), /ARTIFACT_DAMAGED/);
  await served.ended();
});

test("who asks whether there is a bundle, or leaves in the middle of it, leaves nothing held", async () => {
  let stopped = false;
  await using served = await serve(async function* (_image, _rootfs, { signal }) {
    try {
      for (;;) {
        signal.throwIfAborted();
        yield Buffer.alloc(MIB);
      }
    } finally {
      stopped = true;
    }
  });
  assert.equal((await served.ask("HEAD")).statusCode, 200);
  await served.ended();
  assert.ok(!stopped, "nothing was read for it");
  const answer = await served.ask();
  await once(answer, "readable");
  assert.equal(served.leases.active, 1);
  answer.destroy();
  await served.ended();
  assert.ok(stopped);
  assert.deepEqual(served.logged, []);
});
