import type { BootFiles } from "../pipeline/artifacts.port.ts";
import type { GuestSetup } from "../vms/agent.port.ts";
import type { VmRecord } from "../vms/record.ts";
import type { Core } from "./core.ts";
import type { VmNetwork } from "./vm-network.ts";

const ENTROPY_BYTES = 64;

/** What a guest is told about itself. One that was saved has been prepared: its modules are loaded. */
export const guestSetup = (
  core: Pick<Core, "clock" | "random">,
  who: Pick<VmRecord, "hostname" | "machineId" | "bootId">,
  about: { readonly files: BootFiles; readonly network: VmNetwork; readonly isPrepared: boolean },
): GuestSetup => ({
  modules: about.isPrepared ? [] : about.files.setupModules,
  disks: { root: "root", writable: "writable", modules: "modules" },
  hostname: who.hostname,
  machineId: who.machineId,
  clockNs: BigInt(Math.round(core.clock.now() * 1000)) * 1000n,
  entropy: core.random.bytes(ENTROPY_BYTES),
  hosts: `127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t${who.hostname}\n`,
  resolvConf: about.network.resolvConf,
  network: about.network.guest === null || !about.isPrepared ? about.network.guest : { ...about.network.guest, modules: [] },
  bootId: who.bootId ?? "",
});
