import type { Duplex } from "node:stream";
import type { ProcessIdentity } from "@kiln/std/node";

/** The port to one kind of VMM. Nothing here names a particular one; what a driver can do is data. */
export interface DriverCapabilities {
  readonly pause: boolean;
  readonly memorySnapshot: boolean;
  /** Whether a NIC can be given an uplink. */
  readonly network: boolean;
  readonly accels: readonly string[];
}

/** What a driver found when it looked at its VMM and tried to boot with it. */
export interface DriverReport {
  readonly name: string;
  /** null where the VMM is not installed. */
  readonly version: string | null;
  /** "kvm" or "tcg"; null where it cannot run at all. */
  readonly accel: string | null;
  /** Why this accel: one sentence for `doctor`. */
  readonly reason: string;
}

/** In the order in which a guest meets them; what all VMs of a kernel share is first, so that it can be met before a guest is saved. */
export const DISK_SLOTS = ["modules", "root", "writable", "work", "volume0", "volume1", "volume2", "volume3"] as const;
export type DiskSlot = (typeof DISK_SLOTS)[number];
/** Those that a guest may have met before it was saved, without a size: a driver tells the guest when they have got their disks. */
export const MET_SLOTS = ["root", "writable"] as const satisfies readonly DiskSlot[];

export interface DiskSpec {
  readonly slot: DiskSlot;
  readonly path: string;
  readonly readOnly: boolean;
}

export interface KernelFiles {
  /** Paths of the extracted ELF kernel and of the initramfs that holds the agent. */
  readonly vmlinux: string;
  readonly initramfs: string;
  /** Identifies the pair, for cached answers. */
  readonly digest: string;
}

export interface NetworkNamespace {
  readonly network: string;
  /** The one that owns it, where only its members may enter; null where the daemon's privileges do. */
  readonly user: string | null;
}

/** Where the packets of a VM go. */
export interface VmmUplink {
  /** The namespaces that the VMM runs in, as paths that setns(2) takes; null: the host's own. */
  readonly namespace: NetworkNamespace | null;
}

export interface VmmNetwork {
  /** The address of the NIC, "02:…". */
  readonly mac: string;
  /** null: the NIC has no peer. */
  readonly uplink: VmmUplink | null;
}

export interface VmmSpec {
  readonly id: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly kernel: KernelFiles;
  readonly disks: readonly DiskSpec[];
  /** null: no NIC. */
  readonly network: VmmNetwork | null;
  /** A directory of this VM's own, mode 0700, for sockets. It exists. */
  readonly directory: string;
  /** The uid and gid that the VMM runs as; null keeps the daemon's own. Never 0. */
  readonly uid: number | null;
}

/** What VMMs have in common that can start from one snapshot. */
export type VmmShape = Pick<VmmSpec, "cpus" | "memoryBytes" | "kernel">;

/** Where a VMM is saved to. Both files exist and are empty; the daemon may write them. */
export interface SaveTarget {
  readonly memory: string;
  readonly state: string;
}

/** A VMM as it was saved. */
export interface SavedVmm {
  /** An open descriptor of the memory. It cannot be changed through it: who starts from it writes to pages of its own. */
  readonly memory: number;
  /** The file with the state of processors and devices. */
  readonly state: string;
}

/** In the directory of a VM whose VMM was started elsewhere: a link to where. */
export const VMM_LINK = "vmm";

/** Names a running VMM well enough to find it again after a restart of the daemon. JSON. */
export interface VmmRef {
  readonly driver: string;
  readonly vmId: string;
  readonly identity: ProcessIdentity;
  readonly directory: string;
  readonly accel: string;
  /** What it runs as; null: the daemon's own. */
  readonly uid: number | null;
}

export type VmmEnd =
  /** The guest powered off or rebooted. */
  | { readonly reason: "guest-shutdown" }
  | { readonly reason: "guest-panic"; readonly console: string }
  /** Killed by the driver because the caller asked for it. */
  | { readonly reason: "killed" }
  /** The VMM's process ended by itself or by a stranger. */
  | { readonly reason: "vmm-died"; readonly detail: string };

/** A VMM that runs. */
export interface Vmm {
  readonly ref: VmmRef;
  /** A fresh connection to the agent's port. One at a time: the driver closes the one before. Throws VMM_FAILED. */
  openAgentChannel(options: { signal: AbortSignal }): Promise<Duplex>;
  /** Settles once, when no process of the VMM is left. Never rejects. */
  readonly ended: Promise<VmmEnd>;
  /** The newest bytes of the guest's console, bounded by the driver. Empty once it has ended. */
  console(options: { signal: AbortSignal }): Promise<Uint8Array>;
  pause(options: { signal: AbortSignal }): Promise<void>;
  resume(options: { signal: AbortSignal }): Promise<void>;
  /** Ends the VMM at once; idempotent; resolves when `ended` has. */
  kill(): Promise<void>;
  /** Lets go of the VMM, which runs on: the daemon is ending. */
  detach(): Promise<void>;
}

/** A VMM that can be saved. */
export interface SavableVmm extends Vmm {
  /** Stops the guest and writes memory and state; the VMM has ended then. Throws VMM_FAILED. */
  save(options: { signal: AbortSignal }): Promise<void>;
}

/** A VMM whose disks may come after it has started. */
export interface OpenVmm extends Vmm {
  /** Puts disks into empty slots while the guest is paused; it may have met those of MET_SLOTS. Throws VMM_FAILED. */
  attach(disks: readonly DiskSpec[], options: { signal: AbortSignal }): Promise<void>;
}

export interface Driver {
  readonly name: string;
  readonly capabilities: DriverCapabilities;
  /** Looks at the VMM and, with a kernel, boots to choose the accel. Joined and cached: with the host kernel and the VMM's version. */
  probe(kernel: KernelFiles | null, options: { signal: AbortSignal }): Promise<DriverReport>;
  /**
   * Starts a VMM. Returning means: the process runs and its channel can be opened. An abort or a failure leaves no process and no socket.
   * Throws VMM_NOT_FOUND, VMM_TOO_OLD, VMM_FAILED (with the VMM's own words).
   */
  boot(spec: VmmSpec, options: { signal: AbortSignal }): Promise<Vmm>;
  /**
   * Names everything of this driver and of this host that a snapshot of this shape depends on: its VMM, its command
   * line, its accel, the processor where the guest sees it. Another key: the snapshot is of no use. Throws as `boot`.
   */
  snapshotKey(shape: VmmShape, options: { signal: AbortSignal }): Promise<string>;
  /** Boots a VMM that can be saved, with the disks that all who start from it share; its NIC has no peer. Throws as `boot`. */
  bootToSave(spec: Omit<VmmSpec, "network">, target: SaveTarget, options: { signal: AbortSignal }): Promise<SavableVmm>;
  /** Starts a VMM from where another was saved, with the disks and the NIC of `spec`. The guest runs on return. Throws as `boot`. */
  restore(spec: VmmSpec, saved: SavedVmm, options: { signal: AbortSignal }): Promise<Vmm>;
  /** The same for a VMM that gets further disks later. */
  restoreOpen(spec: VmmSpec, saved: SavedVmm, options: { signal: AbortSignal }): Promise<OpenVmm>;
  /** Takes over a VMM that an earlier daemon started; null where it does not run any more. Throws VMM_FAILED where it runs but does not answer. */
  adopt(ref: VmmRef, options: { signal: AbortSignal }): Promise<Vmm | null>;
  /** Ends processes of this driver that were started below `directory` (found by their marker in /proc), and no others. Returns how many. */
  endStrays(directory: string): Promise<number>;
}
