import { stdin, stdout } from "node:process";
import type { CreateVmRequest, OperationView } from "@kiln/protocol";
import { asKilnError } from "@kiln/protocol/errors";
import type { Kiln } from "@kiln/sdk";
import { connect } from "@kiln/sdk/node";
import { operationError } from "../../../packages/sdk/src/resources/operations.ts";
import type { ClientReport } from "./arithmetic.ts";

/**
 * One client of a crowd, a process of its own: says that it stands ready, and at a word on its stdin does once what `kiln run --rm` does. Its
 * report is a line of JSON.
 */
const [home, text] = process.argv.slice(2);
if (home === undefined || text === undefined) throw new Error("a client is given a home and a request");
const request = JSON.parse(text) as CreateVmRequest;

/** To its end, with the operation as it ended. */
const ended = async (kiln: Kiln, operations: OperationView[], begun: OperationView): Promise<OperationView> => {
  const last = await kiln.operations.wait(begun.id);
  operations.push(last);
  if (last.state !== "succeeded") throw operationError(last);
  return last;
};

const runOnce = async (kiln: Kiln, operations: OperationView[]): Promise<{ outputMs: number | null; exitCode: number | null }> => {
  const began = performance.now();
  const { result } = await ended(kiln, operations, await kiln.vms.create({ ...request, start: false, autoRemove: true }));
  const id = result ?? "";
  await using session = kiln.vms.attach(id);
  await session.connected;
  await ended(kiln, operations, await kiln.vms.start(id));
  let outputMs: number | null = null;
  for await (const _chunk of session) outputMs ??= performance.now() - began;
  const { exitCode } = await session.exit;
  return { outputMs, exitCode };
};

const report = async (kiln: Kiln): Promise<ClientReport> => {
  const operations: OperationView[] = [];
  const began = performance.now();
  const cpuBefore = process.cpuUsage();
  const took = (): { ms: number; cpuMs: number } => {
    const { user, system } = process.cpuUsage(cpuBefore);
    return { ms: performance.now() - began, cpuMs: (user + system) / 1000 };
  };
  const times = (): ClientReport["operations"] => operations.map(({ kind, phases, waits }) => ({ kind, phases, waits }));
  try {
    const { outputMs, exitCode } = await runOnce(kiln, operations);
    const failure = exitCode === 0 && outputMs !== null ? null : `exit code ${exitCode}`;
    return { ...took(), outputMs, failure, detail: null, operations: times() };
  } catch (error) {
    const { code, message } = asKilnError(error);
    return { ...took(), outputMs: null, failure: code, detail: message, operations: times() };
  }
};

using kiln = connect({ home });
stdout.write("ready\n");
for await (const _word of stdin) break;
stdout.write(`${JSON.stringify(await report(kiln))}\n`);
