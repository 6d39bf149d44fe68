import { execFile, spawn } from "node:child_process";
import { readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { writeNewc } from "@kiln/formats/cpio";
import { KERNEL_COMMAND_LINE } from "../../packages/daemon/src/vmm/qemu/args.ts";
import { CACHE } from "./home.ts";

const run = promisify(execFile);
const READY = "bare init runs";
const TIMEOUT_MS = 60_000;

const INIT_SOURCE = `#include <unistd.h>
#include <fcntl.h>
int main(void) {
  int console = open("/dev/console", O_WRONLY);
  static const char text[] = "${READY}\\n";
  if (write(console, text, sizeof text - 1) < 0) return 1;
  for (;;) pause();
}
`;

/** Builds an initramfs with nothing but an init that says it runs, and returns a boot of `kernelsDirectory`'s kernel into it. */
export const prepareBareBoot = async (kernelsDirectory: string, accel: string): Promise<() => Promise<number>> => {
  const [set] = await readdir(kernelsDirectory);
  if (set === undefined) throw new Error(`there is no kernel set in ${kernelsDirectory}`);
  const [source, binary, initramfs] = ["bare-init.c", "bare-init", "bare.cpio"].map((name) => join(CACHE, name)) as [
    string,
    string,
    string,
  ];
  await writeFile(source, INIT_SOURCE);
  await run("musl-gcc", ["-Os", "-static", "-o", binary, source]);
  await writeFile(initramfs, bareArchive(await readFile(binary)));
  return () => boot(join(kernelsDirectory, set, "vmlinux"), initramfs, accel);
};

const bareArchive = (init: Uint8Array): Uint8Array =>
  writeNewc([
    { type: "directory", path: "dev", mode: 0o755 },
    { type: "char", path: "dev/console", mode: 0o600, major: 5, minor: 1 },
    { type: "file", path: "init", mode: 0o755, bytes: init },
  ]);

/** Milliseconds from the spawn of QEMU to the first word of init: Kiln's machine, CPU model, kernel and command line, without a device. */
const boot = async (vmlinux: string, initramfs: string, accel: string): Promise<number> => {
  const machine = [
    "-M",
    "q35,i8042=off,usb=off,sata=off,smbus=off,hpet=off",
    "-accel",
    accel,
    "-cpu",
    accel === "kvm" ? "host" : "max",
    "-m",
    "512",
    "-nodefaults",
    "-no-user-config",
  ];
  const kernel = ["-kernel", vmlinux, "-initrd", initramfs, "-append", KERNEL_COMMAND_LINE];
  const began = performance.now();
  const child = spawn("qemu-system-x86_64", [...machine, ...kernel, "-display", "none", "-serial", "stdio"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), TIMEOUT_MS);
  let seen = "";
  try {
    for await (const chunk of child.stdout) {
      seen += String(chunk);
      if (seen.includes(READY)) return performance.now() - began;
    }
    throw new Error(`the bare guest never came up; its console: ${seen.slice(-500)}`);
  } finally {
    clearTimeout(timer);
    child.kill("SIGKILL");
  }
};
