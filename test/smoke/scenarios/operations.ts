/** Long actions and what can be said of them. */
import assert from "node:assert/strict";
import { request } from "node:http";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { ImageView, OperationView, VmView } from "@kiln/protocol";
import { createImage } from "../../../packages/daemon/src/registry/testing/pulling.ts";
import { ScriptedRegistry } from "../../../packages/daemon/src/registry/testing/scripted-registry.ts";
import { buildTar } from "../../../packages/formats/src/tar/tar-writer.fixture.ts";
import { waitUntil } from "../../e2e/home.ts";
import { guest, IMAGE, MEMORY, MEMORY_BYTES } from "../guests.ts";
import { isolated, type Scenario } from "../scenario.ts";

interface Answer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

/** What a program without Kiln's SDK sends. */
const post = async (
  home: string,
  body: unknown,
  { key, signal }: { readonly key: string; readonly signal: AbortSignal },
): Promise<Answer> => {
  const headers = { "content-type": "application/json", "idempotency-key": key };
  const sent = request({ socketPath: join(home, "kiln.sock"), method: "POST", path: "/v1/vms", headers, signal });
  const answered = new Promise<Answer>((resolve, reject) => {
    sent.once("error", reject);
    sent.once("response", (response) => {
      text(response).then((read) => resolve({ status: response.statusCode ?? 0, body: JSON.parse(read) as Answer["body"] }), reject);
    });
  });
  sent.end(JSON.stringify(body));
  return answered;
};

export const OPERATIONS: readonly Scenario[] = [
  isolated(
    "op-watch",
    "op ls -a, op inspect and op watch tell of a start the same, with its phases and their times",
    async ({ kiln, vm }) => {
      const name = vm("watched");
      const begun = await kiln.json<{ operation: string }>("create", "--no-wait", "--name", name, ...guest(), "busybox", "true");
      await kiln.ok("op", "watch", begun.operation);
      const started = await kiln.json<{ operation: string }>("start", "--no-wait", name);
      await kiln.ok("op", "watch", started.operation);
      const all = (await kiln.json<OperationView[]>("op", "ls", "-a")).filter(({ id }) =>
        [begun.operation, started.operation].includes(id),
      );
      const ends = all.map(({ kind, state }) => `${kind} ${state}`);
      assert.deepEqual(new Set(ends), new Set(["vm.create succeeded", "vm.start succeeded"]));
      const one = await kiln.json<OperationView>("op", "inspect", started.operation);
      assert.ok(
        one.phases.some(({ name: phase, ms }) => phase === "command" && ms > 0),
        JSON.stringify(one.phases),
      );
      await kiln.ok("wait", name);
    },
  ),

  isolated(
    "op-cancel",
    "I11 a pull that hangs is cancelled: its caller is told, the connection ends, and no image is there",
    async ({ kiln, use, nonce }) => {
      const registry = use(await ScriptedRegistry.start());
      registry.serve("tool", "1", createImage([buildTar([{ path: "file", type: "file", content: nonce }])]));
      registry.script = (asked, honest) => (asked.path.includes("/blobs/") ? { ...honest, stallAfter: 10 } : honest);
      const reference = `${registry.host}/tool:1`;
      const pull = kiln.start(["--json", "pull", reference]);
      await waitUntil(async () => Promise.resolve(registry.lines.some((line) => line.includes("/blobs/"))), "the pull");
      const own = (await kiln.json<OperationView[]>("op", "ls")).filter(({ subject }) => subject.includes(registry.host));
      // what the caller waits for: nothing has asked for it
      const operation = own.find(({ parent, kind }) => parent === null && kind.startsWith("image."));
      assert.ok(operation !== undefined);
      await kiln.ok("op", "cancel", operation.id);
      const { code, stderr } = await pull.outcome;
      assert.equal((JSON.parse(stderr) as { code: string }).code, "CANCELLED", `${code} ${stderr}`);
      assert.equal((await kiln.json<OperationView>("op", "inspect", operation.id)).state, "cancelled");
      await registry.untilIdle();
      const images = await kiln.json<ImageView[]>("images");
      assert.ok(!images.some((image) => image.reference.includes(registry.host)));
    },
  ),

  isolated(
    "idempotency-key",
    "the same request with the same key is the same operation and one VM; another request with it is a conflict",
    async (place) => {
      const { kiln, vm, nonce, signal } = place;
      const name = vm("once");
      const body = { image: IMAGE, name, memoryBytes: MEMORY_BYTES, command: ["busybox", "true"] };
      const send = (changes: object = {}): Promise<Answer> => post(kiln.home.path, { ...body, ...changes }, { key: nonce, signal });
      const answers = await Promise.all([send(), send(), send()]);
      assert.deepEqual(
        answers.map(({ status }) => status),
        [202, 202, 202],
        JSON.stringify(answers),
      );
      assert.equal(new Set(answers.map(({ body: { id } }) => id)).size, 1);
      await kiln.ok("op", "watch", String(answers[0]?.body["id"]));
      assert.equal((await kiln.json<VmView[]>("ps", "-a", "--filter", `name=${name}`)).length, 1);
      const other = await send({ command: ["busybox", "false"] });
      assert.deepEqual([other.status, other.body["code"]], [409, "IDEMPOTENCY_CONFLICT"]);
    },
  ),

  isolated(
    "never-fits",
    "a VM that this host never has memory for is refused at once: it is there, as docker leaves it, and never started",
    async ({ kiln, vm }) => {
      const name = vm("giant");
      await kiln.problem(
        { exit: 125, code: "CAPACITY_EXCEEDED" },
        "run",
        "-d",
        "--name",
        name,
        "-m",
        "1000g",
        IMAGE,
        "--",
        "busybox",
        "true",
      );
      assert.equal((await kiln.json<VmView>("inspect", name)).state, "created");
      await kiln.problem({ exit: 2, code: "REQUEST_INVALID" }, "run", "-d", "--name", "Not_A_Name", "-m", MEMORY, IMAGE);
    },
  ),
];
