import { KilnError } from "@kiln/protocol";
import { DISK_SLOTS, type DiskSlot, type VmmNetwork } from "../../vms/driver.port.ts";
import { GUEST_NETWORK } from "../../vms/guest-network.ts";
import { VMM_LIMITS } from "../limits.ts";

export type Accel = "kvm" | "tcg";

/** Everything of a VM that QEMU's command line says, with descriptors in place of paths. */
export interface QemuShape {
  readonly id: string;
  readonly accel: Accel;
  readonly cpus: number;
  readonly memoryBytes: number;
  /** Descriptors that QEMU inherits: two listening sockets. */
  readonly descriptors: {
    readonly qmp: number;
    readonly agent: number;
    /** Takes descriptors while it runs; null: none will come. */ readonly hand: number | null;
  };
  /** null for a guest that is restored: its kernel is in its memory. */
  readonly kernel: { readonly vmlinux: number; readonly initramfs: number } | null;
  /**
   * For a snapshot: the memory's descriptor, and whether the guest's writes go there (to be saved) or to pages of its
   * own (restored). Then there is a device for every slot and a NIC, so that the devices are the same on both sides.
   * `empty` are files without a byte, for the slots of MET_SLOTS that have no disk.
   */
  readonly snapshot: {
    readonly memory: number;
    readonly shared: boolean;
    readonly empty: readonly { readonly slot: DiskSlot; readonly descriptor: number }[];
  } | null;
  readonly network: VmmNetwork | null;
  readonly disks: readonly { readonly slot: DiskSlot; readonly descriptor: number; readonly readOnly: boolean }[];
}

export const AGENT_PORT = "kiln.agent";
/** QEMU names the port in its events only if it has an id. */
export const AGENT_DEVICE_ID = "agent-port";
export const CONSOLE_ID = "console";

const MIB = 2 ** 20;
/** A guest finds its disks at the same address whichever others it has. Address 0 is the host bridge, 0x1f the ISA bridge. */
const SERIAL_ADDRESS = 0x2;
const NIC_ADDRESS = 0x3;
/** Of a NIC that nobody uses. */
const NO_MAC = "02:00:00:00:00:00";
const FIRST_DISK_ADDRESS = 0x8;

/**
 * The kernel skips self-tests of its ciphers (a sixth of a cold boot under TCG) and watchdogs that a busy host would
 * set off, trusts the TSC, has of the security modules those that a program can use without a policy of the host's, and reboots at once when it panics, which ends the VM. The agent takes nothing from here.
 */
export const KERNEL_COMMAND_LINE =
  "console=ttyS0 quiet tsc=reliable no_timer_check mitigations=off cryptomgr.notests nowatchdog lsm=landlock,yama panic=-1";

/** QEMU's own seccomp filter: no privileges, no other programs, no scheduling games. */
const SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/**
 * All that QEMU can emulate, but for what is slow there: its string instructions take a turn per byte or word, and with erms,
 * fsrm or the rep_good that Linux infers from a later model it clears and copies pages by them (twice the time of a fork);
 * a fifth level of page tables is a fifth memory access of each walk.
 */
const EMULATED_CPU = "max,model=2,erms=off,fsrm=off,la57=off";

/** The command line, without the program. A pure function: equal shapes give equal lines. */
export const qemuArguments = (shape: QemuShape): readonly string[] => {
  if (!/^[A-Za-z0-9_.-]{1,64}$/.test(shape.id)) throw new KilnError("VMM_FAILED", `"${shape.id}" cannot name a VM of QEMU`);
  return [
    ...machineArguments(shape),
    ...memoryArguments(shape),
    ...kernelArguments(shape),
    ...channelArguments(shape),
    ...networkArguments(shape),
    ...DISK_SLOTS.flatMap((slot) => slotArguments(slot, shape)),
  ];
};

const machineArguments = ({ id, accel, cpus, memoryBytes, snapshot }: QemuShape): readonly string[] => [
  ...["-name", `guest=${id}`, "-nodefaults", "-no-user-config", "-display", "none", "-sandbox", SANDBOX],
  ...["-machine", `q35,i8042=off,usb=off,sata=off,smbus=off,hpet=off${snapshot === null ? "" : ",memory-backend=memory"}`, "-accel", accel],
  ...["-cpu", accel === "kvm" ? "host" : EMULATED_CPU, "-smp", String(cpus), "-m", `${Math.ceil(memoryBytes / MIB)}M`, "-rtc", "base=utc"],
  // A guest that ends leaves QEMU paused, so that the driver can still read its console.
  ...["-action", "reboot=shutdown,shutdown=pause,panic=pause"],
];

/** QEMU opens these by name. The name is that of a descriptor, so that no directory above the file has to be open to it. */
const kernelArguments = ({ kernel }: QemuShape): readonly string[] =>
  kernel === null
    ? ["-incoming", "defer"]
    : [
        ...["-kernel", `/proc/self/fd/${kernel.vmlinux}`, "-initrd", `/proc/self/fd/${kernel.initramfs}`],
        ...["-append", KERNEL_COMMAND_LINE],
      ];

const memoryArguments = ({ memoryBytes, snapshot }: QemuShape): readonly string[] =>
  snapshot === null
    ? []
    : [
        "-object",
        `memory-backend-file,id=memory,size=${memoryBytes},mem-path=/proc/self/fd/${snapshot.memory},share=${snapshot.shared ? "on" : "off"}`,
      ];

const channelArguments = ({ descriptors }: QemuShape): readonly string[] => [
  ...["-chardev", `socket,id=qmp,fd=${descriptors.qmp},server=on,wait=off`, "-mon", "chardev=qmp,mode=control"],
  ...(descriptors.hand === null
    ? []
    : ["-chardev", `socket,id=hand,fd=${descriptors.hand},server=on,wait=off`, "-mon", "chardev=hand,mode=control"]),
  ...["-chardev", `ringbuf,id=${CONSOLE_ID},size=${VMM_LIMITS.consoleBytes}`, "-serial", `chardev:${CONSOLE_ID}`],
  ...["-chardev", `socket,id=agent,fd=${descriptors.agent},server=on,wait=off`],
  ...["-device", `virtio-serial-pci,id=serial,addr=${hex(SERIAL_ADDRESS)},max_ports=2`],
  ...["-device", `virtserialport,id=${AGENT_DEVICE_ID},chardev=agent,name=${AGENT_PORT}`],
];

/**
 * The guest's driver finds the address in the device; no boot from the network, so no ROM. The link is always up, and
 * there is no neighbour to tell of a restore: a guest that is told of either is busy with it for 20 ms under TCG.
 */
const networkArguments = ({ network, snapshot }: QemuShape): readonly string[] => {
  if (network === null && snapshot === null) return [];
  const nic = `virtio-net-pci,id=nic,mac=${network?.mac ?? NO_MAC},addr=${hex(NIC_ADDRESS)},romfile=,status=off,guest_announce=off`;
  if (network === null || network.uplink === null) return ["-device", nic];
  return ["-netdev", USER_NETDEV, "-device", `${nic},netdev=net`];
};

/** QEMU speaks for the guest from sockets of its own, IPv4 only: no raw packet of the guest leaves the VMM. */
const USER_NETDEV = [
  "user,id=net,ipv4=on,ipv6=off",
  `net=${GUEST_NETWORK.network},host=${GUEST_NETWORK.gateway},dns=${GUEST_NETWORK.resolver},dhcpstart=${GUEST_NETWORK.address}`,
].join(",");

/** A device that can write does not take a file later that cannot be written. */
export const READ_ONLY_SLOTS: ReadonlySet<DiskSlot> = new Set(["modules", "root"]);

/** Where the devices are to be the same whatever disks there are, a slot without one holds nothing. */
const slotArguments = (slot: DiskSlot, { disks, snapshot }: QemuShape): readonly string[] => {
  const disk = disks.find((one) => one.slot === slot);
  if (disk !== undefined) return diskArguments(disk);
  if (snapshot === null) return [];
  const access = `read-only=${READ_ONLY_SLOTS.has(slot) ? "on" : "off"}`;
  const empty = snapshot.empty.find((one) => one.slot === slot);
  return [
    ...(empty === undefined
      ? ["-blockdev", `driver=null-co,node-name=${slot}-file,size=0,${access}`]
      : fileNode(slot, empty.descriptor, "read-only=off")),
    ...["-blockdev", `driver=raw,node-name=${slot},file=${slot}-file,${access}`],
    ...diskDevice(slot),
  ];
};

const diskDevice = (slot: DiskSlot): readonly string[] => [
  "-device",
  `virtio-blk-pci,id=disk-${slot},drive=${slot},serial=${slot},addr=${hex(FIRST_DISK_ADDRESS + DISK_SLOTS.indexOf(slot))}`,
];

/** The cache mode is QEMU's default, writeback: a guest's flush is an fdatasync of the file (I25). */
const diskArguments = ({ slot, descriptor, readOnly }: QemuShape["disks"][number]): readonly string[] => {
  const access = readOnly ? "read-only=on" : "read-only=off,discard=unmap";
  return [
    ...fileNode(slot, descriptor, access),
    ...["-blockdev", `driver=raw,node-name=${slot},file=${slot}-file,${access}`],
    ...diskDevice(slot),
  ];
};

/** The number of a slot's set of descriptors that come with the command line. */
export const inheritedSet = (slot: DiskSlot): number => DISK_SLOTS.indexOf(slot) + 1;

const fileNode = (slot: DiskSlot, descriptor: number, access: string): readonly string[] => {
  const set = inheritedSet(slot);
  return [
    ...["-add-fd", `fd=${descriptor},set=${set}`],
    ...["-blockdev", `driver=file,node-name=${slot}-file,filename=/dev/fdset/${set},${access}`],
  ];
};

const hex = (number: number): string => `0x${number.toString(16)}`;
