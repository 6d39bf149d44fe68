import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { type CommandRequest, DEFAULT_PATH, resolveCommand } from "./command.ts";

const IMAGE = { entrypoint: ["/entry"], cmd: ["default"], env: ["PATH=/bin", "A=1"], workingDir: "/work", user: "app", stopSignal: "" };
const BARE = { entrypoint: [], cmd: [], env: [], workingDir: "", user: "", stopSignal: "" };
const NOTHING: CommandRequest = { command: null, entrypoint: null, env: [], workingDir: null, user: null, idle: false };

suite("a VM's command", () => {
  test("ENTRYPOINT and CMD combine as docker combines them", () => {
    const argv = (request: Partial<CommandRequest>) => resolveCommand(IMAGE, { ...NOTHING, ...request }).argv;
    assert.deepEqual(argv({}), ["/entry", "default"]);
    assert.deepEqual(argv({ command: ["a", "b"] }), ["/entry", "a", "b"]);
    assert.deepEqual(argv({ command: [] }), ["/entry", "default"]);
    assert.deepEqual(argv({ entrypoint: ["/other"] }), ["/other"]);
    assert.deepEqual(argv({ entrypoint: ["/other", "x"], command: ["a"] }), ["/other", "x", "a"]);
    assert.deepEqual(argv({ entrypoint: [""], command: ["a"] }), ["a"]);
    assert.deepEqual(argv({ entrypoint: [] }), ["default"]);
    assert.equal(argv({ idle: true }), null);
  });

  test("an image without a command idles, but a caller that clears the command is told", () => {
    assert.equal(resolveCommand(BARE, NOTHING).argv, null);
    assert.deepEqual(resolveCommand(BARE, { ...NOTHING, command: ["busybox"] }).argv, ["busybox"]);
    assert.throws(() => resolveCommand(IMAGE, { ...NOTHING, entrypoint: [""] }), { code: "VM_NO_COMMAND" });
  });

  test("the environment is the request's over the image's over docker's PATH", () => {
    assert.deepEqual(resolveCommand(BARE, NOTHING).env, [`PATH=${DEFAULT_PATH}`]);
    const { env } = resolveCommand(IMAGE, { ...NOTHING, env: ["A=2", "B=x=y", "C=", "nonsense", "=x"] });
    assert.deepEqual(env, ["PATH=/bin", "A=2", "B=x=y", "C="]);
  });

  test("directory and user are the request's, else the image's, and a directory is absolute", () => {
    const { workingDir, user } = resolveCommand(IMAGE, { ...NOTHING, workingDir: "/w", user: "" });
    assert.deepEqual([workingDir, user], ["/w", ""]);
    assert.deepEqual([resolveCommand(IMAGE, NOTHING).workingDir, resolveCommand(IMAGE, NOTHING).user], ["/work", "app"]);
    assert.equal(resolveCommand({ ...IMAGE, workingDir: "srv" }, NOTHING).workingDir, "/srv");
    assert.equal(resolveCommand(BARE, NOTHING).workingDir, "/");
  });

  test("a stop signal is a name, whatever the image wrote", () => {
    const signal = (stopSignal: string): string => resolveCommand({ ...BARE, stopSignal }, NOTHING).stopSignal;
    const cases = {
      "": "SIGTERM",
      "9": "SIGKILL",
      "15": "SIGTERM",
      quit: "SIGQUIT",
      SIGINT: "SIGINT",
      "SIGRTMIN+3": "SIGRTMIN+3",
      SIGUSR1: "SIGUSR1",
      "no such": "SIGTERM",
      "99": "SIGTERM",
    };
    for (const [written, name] of Object.entries(cases)) assert.equal(signal(written), name, written);
  });
});
