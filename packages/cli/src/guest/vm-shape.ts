import type { VmView } from "@kiln/protocol";

/** Whether a VM's command has a terminal and takes stdin. A daemon that does not say: neither. */
export const shapeOf = (
  vm: VmView & { readonly tty?: unknown; readonly stdin?: unknown },
): { readonly tty: boolean; readonly stdin: boolean } => ({
  tty: vm.tty !== undefined && vm.tty !== null && vm.tty !== false,
  stdin: vm.stdin === true,
});
