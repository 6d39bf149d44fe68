import { familiarName } from "@kiln/formats/oci/reference";
import type { DfReport, PruneReport } from "@kiln/protocol";
import { examples, type CommandSpec } from "../command-spec.ts";
import { ellipsis, renderTable } from "../render/table.ts";
import { formatBytes, shortDigest } from "../render/units.ts";

type Item = DfReport["items"][number];

const sum = (items: readonly { readonly diskBytes: number }[]): number => items.reduce((total, item) => total + item.diskBytes, 0);

const ofKind = <One extends { readonly kind: string }>(items: readonly One[], ...kinds: readonly string[]): One[] =>
  items.filter((item) => kinds.includes(item.kind));

/** docker's "1.2 GiB (40%)". */
const share = (bytes: number, of: number): string => `${formatBytes(bytes)}${of === 0 ? "" : ` (${Math.round((100 * bytes) / of)}%)`}`;

const active = (items: readonly Item[]): string => String(items.filter((item) => item.inUse).length);

/** docker's `system df`; `unused` is what a prune of all images and kernels that no VM uses would remove. */
export const renderSummary = (report: DfReport, unused: PruneReport): string => {
  const content = ofKind(report.items, "blob", "rootfs");
  const [vms, kernels] = [ofKind(report.items, "vm"), ofKind(report.items, "kernel")];
  const other = report.items.filter((item) => !["blob", "rootfs", "vm", "kernel", "preboot"].includes(item.kind));
  const preboots = ofKind(report.items, "preboot");
  const usedImages = report.images.filter((image) => image.vms > 0).length;
  const freeable = { content: sum(ofKind(unused.removed, "blob", "rootfs")), kernels: sum(ofKind(unused.removed, "kernel")) };
  const stopped = sum(vms.filter((vm) => !vm.inUse));
  return renderTable(
    ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"],
    [
      ["Images", String(report.images.length), String(usedImages), formatBytes(sum(content)), share(freeable.content, sum(content))],
      ["VMs", String(vms.length), active(vms), formatBytes(sum(vms)), share(stopped, sum(vms))],
      ["Kernels", String(kernels.length), active(kernels), formatBytes(sum(kernels)), share(freeable.kernels, sum(kernels))],
      ["Snapshots", String(preboots.length), active(preboots), formatBytes(sum(preboots)), "0 B"],
      ["Other", String(other.length), "", formatBytes(sum(other)), "0 B"],
    ],
  );
};

const renderDetails = (report: DfReport): string => {
  const images = report.images.map((image) => [
    ...[familiarName(image.reference), shortDigest(image.digest), formatBytes(image.diskBytes)],
    ...[formatBytes(image.sharedBytes), formatBytes(image.uniqueBytes), String(image.vms)],
  ]);
  const items = report.items.map((item) => [
    ...[item.kind, ellipsis(shortDigest(item.id), 24), formatBytes(item.bytes), formatBytes(item.diskBytes)],
    ...[formatBytes(item.uniqueBytes), item.inUse ? "yes" : "no"],
  ]);
  return [
    renderTable(["IMAGE", "DIGEST", "SIZE", "SHARED", "UNIQUE", "VMS"], images),
    renderTable(["KIND", "ID", "BYTES", "ON DISK", "UNIQUE", "IN USE"], items),
  ].join("\n");
};

const renderFooter = (report: DfReport): string => {
  const { total, freeBytes, reclaimable, orphans } = report;
  const lines = [
    `${formatBytes(total.diskBytes)} on the disk, ${formatBytes(freeBytes)} free`,
    `kiln prune would free ${formatBytes(reclaimable.diskBytes)}, kiln prune --all ${formatBytes(reclaimable.allDiskBytes)}`,
  ];
  const nobodys =
    orphans.length === 0
      ? ""
      : `\n${renderTable(
          ["NOBODY OWNS"],
          orphans.map((path) => [path]),
        )}`;
  return `\n${lines.join("\n")}\n${nobodys}`;
};

const spec: CommandSpec = {
  configure: (command) =>
    command
      .option("-v, --verbose", "show each image and each file, with what is shared and what is its own")
      .addHelpText("after", examples("kiln df", "kiln df -v", "kiln df --json")),
  run: async (context, command) => {
    const { verbose = false } = command.opts<{ readonly verbose?: boolean }>();
    const kiln = await context.connect();
    const { signal } = context;
    const report = await kiln.df({ signal });
    if (context.json) return context.printJson(report);
    const unused = await kiln.prune({ vms: false, images: true, kernels: true, dryRun: true }, { signal });
    await context.print(renderSummary(report, unused));
    if (verbose) await context.print(`\n${renderDetails(report)}`);
    await context.print(renderFooter(report));
  },
};
export default spec;
