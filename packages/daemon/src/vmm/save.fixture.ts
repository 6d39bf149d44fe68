import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadSealedMemory, mapMemory } from "../content/sealed-memory.ts";
import type { AgentSession } from "../vms/agent.port.ts";
import type { Driver, SavedVmm, Vmm, VmmSpec } from "../vms/driver.port.ts";

const PROGRAM = join(import.meta.dirname, "../../../../.cache/agent/kiln-descriptors");

/** A guest that was saved once its agent had answered, as the daemon does it; its files go with it. */
export const saveGuest = async (
  parts: { driver: Driver; spec: VmmSpec; connect: (vmm: Vmm, signal: AbortSignal) => Promise<AgentSession> },
  signal: AbortSignal,
): Promise<SavedVmm & AsyncDisposable> => {
  await using undo = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "kiln-saved-"));
  undo.defer(() => rm(directory, { recursive: true }));
  const target = { memory: join(directory, "memory"), state: join(directory, "state") };
  for (const path of [target.memory, target.state]) await writeFile(path, "", { mode: 0o600 });
  const vmm = await parts.driver.bootToSave(parts.spec, target, { signal });
  undo.defer(() => vmm.kill());
  const session = await parts.connect(vmm, signal);
  await session.ping({ signal });
  await session[Symbol.asyncDispose]();
  await vmm.save({ signal });
  const map = await mapMemory(target.memory, { signal });
  const memory = await loadSealedMemory({ path: target.memory, map }, { program: PROGRAM, signal });
  undo.use(memory);
  const held = undo.move();
  return { memory: memory.descriptor, state: target.state, [Symbol.asyncDispose]: () => held.disposeAsync() };
};
