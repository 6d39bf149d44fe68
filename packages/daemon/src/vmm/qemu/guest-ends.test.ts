import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { systemClock } from "@kiln/std";
import type { Vmm } from "../../vms/driver.port.ts";
import { isVmmFailed } from "../driver.contract.ts";
import { VMM_LIMITS } from "../limits.ts";
import { buildScriptedGuest, type GuestEnd } from "./scripted-guest.fixture.ts";
import { BOOT_MS, openQemuStage, type QemuStage } from "./stage.fixture.ts";

const signal = AbortSignal.timeout(BOOT_MS * 6);

const bootScripted = async (stage: QemuStage, end: GuestEnd): Promise<Vmm> => {
  const kernel = await buildScriptedGuest(stage.kernel, stage.home, end);
  return stage.driver.boot({ ...(await stage.spec(end)), kernel, disks: [] }, { signal });
};

describe("how a guest of QEMU ends", { timeout: BOOT_MS * 6 }, () => {
  test("a kernel panic is told from a shutdown, with the console's last words", async () => {
    await using stage = await openQemuStage();
    const vmm = await bootScripted(stage, "panic");
    const end = await vmm.ended;
    assert.ok(end.reason === "guest-panic", JSON.stringify(end));
    assert.match(end.console, /the last line/);
    assert.match(end.console, /Attempted to kill init/);
    assert.deepEqual(await stage.remains(vmm.ref.directory), []);
  });

  for (const end of ["power-off", "reboot"] as const) {
    test(`a ${end} by the guest is a shutdown`, async () => {
      await using stage = await openQemuStage();
      const vmm = await bootScripted(stage, end);
      assert.deepEqual(await vmm.ended, { reason: "guest-shutdown" });
      assert.deepEqual(await stage.remains(vmm.ref.directory), []);
    });
  }

  test("10.3 the console is bounded, keeps the newest, and can be read again", async () => {
    await using stage = await openQemuStage();
    const vmm = await bootScripted(stage, "sleep");
    let text = "";
    while (!text.includes("the last line")) {
      await systemClock.sleep(50, { signal });
      text = new TextDecoder().decode(await vmm.console({ signal }));
      assert.ok(text.length <= VMM_LIMITS.consoleBytes);
    }
    assert.doesNotMatch(text, /line 0000/);
    assert.equal(text.length, VMM_LIMITS.consoleBytes);
    assert.equal(new TextDecoder().decode(await vmm.console({ signal })), text);
    await vmm.kill();
  });

  test("I13 a VMM that is killed while it saves its guest ends the save, and nothing is left", async () => {
    await using stage = await openQemuStage();
    const target = { memory: join(stage.home, "memory"), state: join(stage.home, "state") };
    for (const path of [target.memory, target.state]) await writeFile(path, "", { mode: 0o600 });
    for (const ms of [0, 4, 8, 16]) {
      const vmm = await stage.driver.bootToSave(await stage.spec(`saving-${ms}`), target, { signal });
      const saved = vmm.save({ signal }).then(
        () => "saved",
        (error: unknown) => error,
      );
      await systemClock.sleep(ms, { signal });
      await stage.murder(vmm);
      const outcome = await saved;
      assert.ok(outcome === "saved" || isVmmFailed(outcome), String(outcome));
      assert.notEqual((await vmm.ended).reason, "guest-shutdown");
      assert.deepEqual(await stage.remains(vmm.ref.directory), []);
    }
  });

  test("I36 an end that no daemon saw is told to the next one", async () => {
    await using stage = await openQemuStage();
    const vmm = await bootScripted(stage, "panic");
    await vmm.detach();
    await systemClock.sleep(3_000, { signal });
    const adopted = await stage.next().adopt(vmm.ref, { signal });
    assert.ok(adopted !== null);
    assert.equal((await adopted.ended).reason, "guest-panic");
    assert.deepEqual(await stage.remains(vmm.ref.directory), []);
  });
});
