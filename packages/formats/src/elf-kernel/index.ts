/** Linux kernels and their modules: bzImage, vmlinux, .modinfo. Pure. */
export { ElfFile, type ElfNote } from "./elf.ts";
export { KernelFormatError, type KernelFormatErrorCode } from "./errors.ts";
export { unpackLz4Legacy } from "./lz4.ts";
export { indexModules, type IndexedModule, type ModuleTree } from "./module-index.ts";
export { loadOrder, moduleName, readModuleInfo, type ModuleInfo, type ModuleLinks } from "./module-info.ts";
export { extractVmlinux, findPayload, pvhEntry } from "./vmlinux.ts";
