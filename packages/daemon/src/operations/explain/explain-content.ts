import type { Explanation } from "@kiln/protocol";
import type { ImageRecord } from "../../images/records.port.ts";
import type { Core } from "../core.ts";
import { blobsOf } from "../report-images.ts";
import { eventsOf, historyOf, type History, joinedOf, leasesOn, type Part, waitsOf, withDescendants } from "./history.ts";

type Holder = Part<"heldBy">[number];

/** VMs that run on a rootfs or could be started on it. */
const vmsOn = (core: Core, rootfsKey: string): Holder[] =>
  core.vms
    .list()
    .filter((vm) => vm.rootfsKey === rootfsKey)
    .map((vm) => ({ kind: "vm", id: vm.id, name: vm.name, what: "rootfs" }));

export const explainImage = (core: Core, image: ImageRecord): Explanation => {
  const history = historyOf(core);
  const { reference, rootfsKey } = image;
  const vms = vmsOn(core, rootfsKey);
  const names = core.images.listImages().filter((one) => one.rootfsKey === rootfsKey && one.reference !== reference);
  const leases = [
    ...leasesOn(core, history, { name: rootfsKey, what: "rootfs" }),
    ...blobsOf(image).flatMap((digest) => leasesOn(core, history, { name: digest, what: digest })),
  ];
  const isFree = vms.length === 0 && leases.length === 0;
  return {
    ...{ kind: "image", id: image.image.manifestDigest, name: reference, state: isFree ? "unused" : "in use" },
    summary: [describeUse({ reference, vms, leases, others: names.length }), ...describeNames(names)],
    heldBy: [...vms, ...distinct(leases)],
    ...historyOfContent(core, history, { ids: [reference, image.image.manifestDigest, rootfsKey], subjects: [reference] }),
  };
};

const describeUse = (use: { reference: string; vms: readonly Holder[]; leases: readonly Holder[]; others: number }): string => {
  const { reference, vms, leases, others } = use;
  const users = vms.map(({ name }) => name).join(", ");
  if (vms.length > 0 && others === 0) return `${reference} cannot be removed: the rootfs is used by ${users}.`;
  if (vms.length > 0) return `${reference} can be removed, its rootfs stays: it is used by ${users}.`;
  if (leases.length > 0) return `${reference} is on its way to be used: ${[...new Set(leases.map(({ name }) => name))].join(", ")}.`;
  return `Nothing uses ${reference}: \`kiln rmi ${reference}\` or \`kiln prune --all\` removes it.`;
};

const describeNames = (others: readonly ImageRecord[]): string[] =>
  others.length === 0 ? [] : [`Its rootfs has other names too: ${others.map(({ reference }) => reference).join(", ")}.`];

/** A rootfs, a kernel set or a blob. */
export const explainContent = (core: Core, name: string): Explanation => {
  const history = historyOf(core);
  const images = core.images.listImages();
  const kernelUsers = core.vms.list().filter(({ kernelKey }) => kernelKey === name);
  const heldBy: Holder[] = [
    ...vmsOn(core, name),
    ...kernelUsers.map((vm): Holder => ({ kind: "vm", id: vm.id, name: vm.name, what: "kernel" })),
    ...images
      .filter((image) => image.rootfsKey === name || blobsOf(image).includes(name))
      .map(({ reference }): Holder => ({ kind: "image", id: reference, name: reference, what: "content" })),
    ...leasesOn(core, history, { name, what: "content" }),
  ];
  const isKernel = core.kernels.getKernel(name) !== null;
  const free = isKernel
    ? "No VM boots from it: `kiln prune` removes it, unless it is the newest."
    : "Nothing needs it: if it is there, the next sweep removes it.";
  const summary = heldBy.length === 0 ? free : `It is kept by ${[...new Set(heldBy.map((one) => one.name))].join(", ")}.`;
  return {
    ...{ kind: "content", id: name, name, state: heldBy.length === 0 ? "unused" : "in use" },
    ...{ summary: [summary], heldBy: distinct(heldBy) },
    ...historyOfContent(core, history, { ids: [name], subjects: [] }),
  };
};

/** What nothing is left of but what is remembered; null where there is not even that. */
export const explainGone = (core: Core, name: string): Explanation | null => {
  const history = historyOf(core);
  const past = historyOfContent(core, history, { ids: [name], subjects: [name] });
  if (past.operations.length === 0 && past.events.length === 0) return null;
  const last = past.operations.findLast(({ parent }) => parent === null);
  const removed = past.events.findLast(({ type }) => type.endsWith(".removed"));
  const why = last?.error === null || last === undefined ? [] : [`The last ${last.kind} ${last.state}: ${last.error.detail}`];
  return {
    ...{ kind: "gone", id: null, name, state: null },
    summary: [removed === undefined ? `There is no ${name} now.` : `${name} was removed at ${removed.time}.`, ...why],
    ...{ heldBy: [], ...past, error: last?.error ?? null },
  };
};

const historyOfContent = (
  core: Core,
  history: History,
  about: { ids: readonly string[]; subjects: readonly string[] },
): Pick<Explanation, "error" | "waits" | "joined" | "capacity" | "operations" | "events"> => {
  const roots = history.all.filter(({ key, subject }) => about.ids.includes(key) || about.subjects.includes(subject));
  const operations = withDescendants(history, roots);
  const events = eventsOf(core, [...about.ids, ...about.subjects, ...roots.map(({ id }) => id)]);
  return {
    ...{ error: null, capacity: null, operations, events: [...events] },
    waits: waitsOf(history, operations, events),
    joined: joinedOf(history, operations),
  };
};

const distinct = (holders: readonly Holder[]): Holder[] => [
  ...new Map(holders.map((one) => [`${one.kind} ${one.id} ${one.name} ${one.what}`, one])).values(),
];
