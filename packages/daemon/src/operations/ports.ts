import { asKilnError, KilnError, LIMITS, type PortRequest, type RemovePort, type VmId } from "@kiln/protocol";
import type { DialGuest, OpenPort, PortForwarder } from "../vms/forward.port.ts";
import { addressText, isSamePort, type PublishedPort, requireFreePorts, toPublishedPort } from "../vms/ports.ts";
import type { VmRecord } from "../vms/record.ts";
import type { Core } from "./core.ts";
import { getVm } from "./find-vm.ts";
import { OPERATION_LIMITS } from "./limits.ts";

/** The host's side of what VMs have published, while they live. */
export class OpenPorts {
  readonly #forwarder: PortForwarder;
  readonly #open = new Map<VmId, Map<string, OpenPort>>();

  constructor(forwarder: PortForwarder) {
    this.#forwarder = forwarder;
  }

  has(id: VmId, port: PublishedPort): boolean {
    return this.#open.get(id)?.has(addressText(port)) ?? false;
  }

  /** The port with the number that it has from here on. Idempotent. Throws PORT_IN_USE, PORT_UNAVAILABLE, PERMISSION_DENIED. */
  async open(id: VmId, port: PublishedPort, dial: DialGuest): Promise<PublishedPort> {
    if (this.has(id, port)) return port;
    const opened = await this.#forwarder.open(port, dial);
    const known = { ...port, hostPort: opened.hostPort };
    const ports = this.#open.get(id) ?? new Map<string, OpenPort>();
    this.#open.set(id, ports.set(addressText(known), opened));
    return known;
  }

  async close(id: VmId, port: PublishedPort): Promise<void> {
    const ports = this.#open.get(id);
    const opened = ports?.get(addressText(port));
    ports?.delete(addressText(port));
    await opened?.[Symbol.asyncDispose]();
  }

  /** All of a VM. Returning means that their addresses are free. Idempotent. */
  async closeAll(id: VmId): Promise<void> {
    const ports = this.#open.get(id);
    this.#open.delete(id);
    await Promise.all([...(ports?.values() ?? [])].map((opened) => opened[Symbol.asyncDispose]()));
  }

  /** The daemon ends; the next one opens them again. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#open.keys()].map((id) => this.closeAll(id)));
  }
}

/** A client that comes while the VM starts waits for it; one of a paused VM waits as long as it likes. */
const dialGuest =
  (core: Core, id: VmId, { guestPort, protocol }: PublishedPort): DialGuest =>
  async ({ signal }) => {
    const run = await core.running.next(id, { signal });
    return run.session.dial({ protocol, port: guestPort });
  };

/** An automatic port keeps its number where it can. The number that it gets is written down with it. */
const openOne = async (core: Core, record: VmRecord, port: PublishedPort): Promise<PublishedPort> => {
  const dial = dialGuest(core, record.id, port);
  if (!port.isAutomatic) return core.ports.open(record.id, port, dial);
  for (let attempt = 1, wanted = port; ; attempt += 1, wanted = { ...port, hostPort: 0 }) {
    const opened = await core.ports.open(record.id, wanted, dial).catch((error: unknown) => asKilnError(error));
    if (opened instanceof KilnError && (opened.code !== "PORT_IN_USE" || attempt >= OPERATION_LIMITS.portAttempts)) throw opened;
    if (opened instanceof KilnError) continue;
    try {
      // another VM may have been promised what the host takes for free
      requireFreePorts({ ...record, ports: [opened] }, core.vms.list());
      return opened;
    } catch (error) {
      await core.ports.close(record.id, opened);
      if (attempt >= OPERATION_LIMITS.portAttempts) throw error;
    }
  }
};

/** Opens what a VM has published and is not open yet; a failure leaves none of it open. Idempotent. */
export const openPorts = async (core: Core, record: VmRecord): Promise<void> => {
  try {
    const ports: PublishedPort[] = [];
    for (const port of record.ports) ports.push(await openOne(core, record, port));
    if (ports.some((port, index) => port.hostPort !== record.ports[index]?.hostPort)) core.vms.setPorts(record.id, ports);
  } catch (error) {
    await core.ports.closeAll(record.id);
    throw error;
  }
};

/** Publishes a port of a VM: at once where it lives, else from its next start on. One that is published already stays as it is. */
export const addPort = async (
  core: Core,
  reference: string,
  { request, signal }: { request: PortRequest; signal: AbortSignal },
): Promise<PublishedPort> => {
  const { id } = getVm(core.vms, reference);
  using _lock = await core.vmLocks.acquire(id, { signal });
  const record = getVm(core.vms, id);
  const wanted = toPublishedPort(request);
  const known = record.ports.find((port) => isSamePort(port, wanted));
  if (known !== undefined) return known;
  if (record.ports.length >= LIMITS.ports)
    throw new KilnError("CAPACITY_EXCEEDED", `the VM ${record.name} has ${record.ports.length} published ports; no VM has more`, {
      ...{ object: record.name, hint: `remove one with \`kiln port rm ${record.name} PORT\`` },
    });
  requireFreePorts({ ...record, ports: [...record.ports, wanted] }, core.vms.list());
  const run = core.running.get(id);
  if (run === null) {
    core.vms.setPorts(id, [...record.ports, wanted]);
    return wanted;
  }
  const opened = await openOne(core, record, wanted);
  try {
    core.vms.setPorts(id, [...record.ports, opened]);
  } catch (error) {
    await core.ports.close(id, opened);
    throw error;
  }
  // it may have ended meanwhile
  if (core.running.get(id) !== run) await core.ports.close(id, opened);
  return opened;
};

/** Takes back every published port that fits, and breaks off its connections. Throws PORT_NOT_FOUND where none does. */
export const removePorts = async (
  core: Core,
  reference: string,
  { which, signal }: { which: RemovePort; signal: AbortSignal },
): Promise<void> => {
  const { id } = getVm(core.vms, reference);
  using _lock = await core.vmLocks.acquire(id, { signal });
  const record = getVm(core.vms, id);
  const gone = record.ports.filter((port) => fits(port, which));
  if (gone.length === 0) {
    const text = `${which.guestPort}/${which.protocol}`;
    throw new KilnError("PORT_NOT_FOUND", `the VM ${record.name} has not published ${text}${which.hostPort === null ? "" : " there"}`, {
      ...{ object: record.name, hint: `list what it has with \`kiln port ls ${record.name}\`` },
    });
  }
  core.vms.setPorts(
    id,
    record.ports.filter((port) => !gone.includes(port)),
  );
  await Promise.all(gone.map((port) => core.ports.close(id, port)));
};

const fits = (port: PublishedPort, which: RemovePort): boolean =>
  port.guestPort === which.guestPort &&
  port.protocol === which.protocol &&
  (which.hostIp === null || which.hostIp === port.hostIp) &&
  (which.hostPort === null || which.hostPort === port.hostPort);
