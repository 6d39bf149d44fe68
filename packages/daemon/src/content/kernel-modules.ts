import { indexModules, KernelFormatError, loadOrder, type ModuleInfo, moduleName, readModuleInfo } from "@kiln/formats/elf-kernel";
import { KilnError } from "@kiln/protocol";
import { runTool, ToolError } from "@kiln/std/node";
import { type KernelManifest, MODULE_PURPOSES, type ModulePurpose } from "../kernels/kernel-set.ts";
import type { KernelPackage } from "./kernel-package.ts";

export interface KernelModule extends ModuleInfo {
  /** Below /lib/modules/RELEASE. */
  readonly path: string;
  /** Unpacked. */
  readonly bytes: Uint8Array;
}

const MODULE_FILE = /\.ko(?:\.xz|\.zst)?$/;

/** Every module of the package by name. Throws KERNEL_INVALID, HOST_TOOL_MISSING. */
export const readModules = async (kernel: KernelPackage, options: { signal: AbortSignal }): Promise<ReadonlyMap<string, KernelModule>> => {
  const modules = new Map<string, KernelModule>();
  for (const [path, packed] of kernel.moduleFiles) {
    if (!MODULE_FILE.test(path)) continue;
    const bytes = await unpackModule(path, packed, options.signal);
    const info = inModule(path, () => readModuleInfo(bytes));
    modules.set(info.name, { ...info, path, bytes });
  }
  return modules;
};

const UNPACKERS: Readonly<Record<string, string>> = { xz: "xz", zst: "zstd" };

const unpackModule = async (path: string, bytes: Uint8Array, signal: AbortSignal): Promise<Uint8Array> => {
  const tool = UNPACKERS[path.slice(path.lastIndexOf(".") + 1)];
  if (tool === undefined) return bytes;
  try {
    return (await runTool(tool, ["-dc"], { signal, stdin: bytes, maxOutputBytes: 64 * 2 ** 20 })).stdout;
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    if (error.code === "ENOENT") {
      throw new KilnError("HOST_TOOL_MISSING", `the kernel's modules are packed with ${tool}, which is not there`, {
        cause: error,
        hint: "apt-get install xz-utils zstd",
      });
    }
    throw new KilnError("KERNEL_INVALID", `the module ${path} cannot be unpacked`, { cause: error, object: path });
  }
};

/** What to load for each purpose, in order; a purpose's list leaves out what boot has loaded. Throws KERNEL_INVALID. */
export const planModules = (modules: ReadonlyMap<string, KernelModule>, kernel: KernelPackage): KernelManifest["modules"] => {
  const builtin = new Set(readBuiltin(kernel));
  const order = (purpose: ModulePurpose): string[] => {
    const wanted: readonly string[] = MODULE_PURPOSES[purpose];
    return inModule(purpose, () => [
      ...loadOrder(
        wanted.filter((name) => modules.has(name) || !builtin.has(name)),
        modules,
      ),
    ]);
  };
  const boot = order("boot");
  const rest = (purpose: ModulePurpose): string[] => order(purpose).filter((name) => !boot.includes(name));
  return { boot, block: rest("block"), overlay: rest("overlay"), net: rest("net"), vsock: rest("vsock"), mmio: rest("mmio") };
};

/** The package's files and what depmod would write beside them, by their paths below /lib/modules. Throws KERNEL_INVALID. */
export const indexedModuleFiles = (kernel: KernelPackage, modules: ReadonlyMap<string, KernelModule>): ReadonlyMap<string, Uint8Array> => {
  const text = (name: string): string => new TextDecoder("latin1").decode(kernel.moduleFiles.get(name) ?? new Uint8Array());
  const tree = { modules, order: text("modules.order"), builtin: text("modules.builtin"), builtinModinfo: text("modules.builtin.modinfo") };
  const index = inModule(kernel.release, () => indexModules(tree));
  return new Map([...kernel.moduleFiles, ...index].map(([path, bytes]) => [`${kernel.release}/${path}`, bytes]));
};

const readBuiltin = (kernel: KernelPackage): string[] => {
  const list = new TextDecoder().decode(kernel.moduleFiles.get("modules.builtin") ?? new Uint8Array());
  return list
    .split("\n")
    .flatMap((line) => /([^/]+)\.ko$/.exec(line)?.[1] ?? [])
    .map(moduleName);
};

const inModule = <Result>(what: string, read: () => Result): Result => {
  try {
    return read();
  } catch (error) {
    if (error instanceof KernelFormatError)
      throw new KilnError("KERNEL_INVALID", `${what}: ${error.message}`, { cause: error, object: what });
    throw error;
  }
};
