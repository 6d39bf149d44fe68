import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { runTool } from "@kiln/std/node";
import type { KernelFiles } from "../../vms/driver.port.ts";

export type GuestEnd = "panic" | "power-off" | "reboot" | "sleep";

const ENDS: Readonly<Record<GuestEnd, string>> = {
  // The end of init is the end of the kernel.
  panic: "return 1;",
  "power-off": "reboot(RB_POWER_OFF);",
  reboot: "reboot(RB_AUTOBOOT);",
  sleep: "for (;;) pause();",
};

/** An init that writes 170 KB to the console and then does `end`. */
const source = (end: GuestEnd): string => `
#include <fcntl.h>
#include <stdio.h>
#include <sys/reboot.h>
#include <unistd.h>
int main(void) {
  int console = open("/dev/console", O_RDWR);
  char line[200];
  for (int i = 0; i < 1500; i += 1) write(console, line, snprintf(line, sizeof line, "line %04d %0100d\\n", i, 0));
  write(console, "the last line\\n", 14);
  ${ENDS[end]}
  return 1;
}
`;

/** The test kernel with another first program, for ends that the agent does not bring about. */
export const buildScriptedGuest = async (kernel: KernelFiles, directory: string, end: GuestEnd): Promise<KernelFiles> => {
  const signal = AbortSignal.timeout(60_000);
  const tree = join(directory, `tree-${end}`);
  await mkdir(tree, { recursive: true });
  await writeFile(join(directory, `${end}.c`), source(end));
  await runTool("musl-gcc", ["-static", "-Os", "-w", "-o", join(tree, "init"), join(directory, `${end}.c`)], { signal });
  await chmod(join(tree, "init"), 0o755);
  const archive = await runTool("cpio", ["-o", "-H", "newc", "--quiet"], { signal, cwd: tree, stdin: Buffer.from("init\n") });
  const initramfs = join(directory, `initramfs-${end}`);
  // What a later archive of an initramfs holds replaces what an earlier one does (Documentation/driver-api/early-userspace/buffer-format.rst).
  await writeFile(initramfs, Buffer.concat([await readFile(kernel.initramfs), archive.stdout]), { mode: 0o644 });
  return { vmlinux: kernel.vmlinux, initramfs, digest: `sha256:${end}` };
};
