import { familiarName } from "@kiln/formats/oci/reference";
import type { ImageVerification } from "@kiln/protocol";
import { asKilnError, type KilnError } from "@kiln/protocol/errors";
import type { Kiln } from "@kiln/sdk";
import { examples, type CommandSpec } from "../command-spec.ts";
import type { CommandContext } from "../context.ts";
import { NO_WAIT_HELP } from "../images/transport.ts";
import { tellFailures } from "../names.ts";
import { beginEach, followOperation } from "../operation.ts";
import { escapeControl } from "../render/escape.ts";
import { ProgressBlock } from "../render/progress.ts";

interface Verified {
  readonly report: ImageVerification | null;
  readonly error: KilnError | null;
}

const verifyOne = async (context: CommandContext, kiln: Kiln, one: { reference: string; progress: ProgressBlock }): Promise<Verified> => {
  const { signal } = context;
  const operation = await kiln.images.verify(one.reference, { signal });
  const error = await followOperation(context, operation, { kiln, progress: one.progress, cancel: true }).then(
    () => null,
    (thrown: unknown) => asKilnError(thrown),
  );
  signal.throwIfAborted();
  const { report } = await kiln.operations.get(operation.id, { signal });
  return { report: report?.kind === "image.verify" ? report : null, error };
};

const renderReport = ({ reference, ok, blobs, found, recorded, rebuilt }: ImageVerification): string => {
  const bad = blobs.filter(({ state }) => state !== "whole");
  const rootfs = recorded === null ? "no rootfs yet" : found === recorded ? "its rootfs" : "not its rootfs";
  const built =
    rebuilt === null ? "which cannot be built again" : rebuilt === recorded ? "which its layers give" : "and its layers give another";
  const words = ok ? `whole: ${blobs.length} blobs, and ${rootfs}, ${recorded === null ? "which can be built" : built}` : "damaged";
  return [
    escapeControl(familiarName(reference)),
    `  ${words}`,
    ...bad.map(({ digest, kind, state }) => `  ${kind} ${digest}: ${state}`),
  ].join("\n");
};

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<image...>", "images that are there: names, or digests and their beginnings")
      .option("--no-wait", NO_WAIT_HELP)
      .addHelpText("after", examples("kiln image verify alpine", "kiln image verify alpine --json | jq .rebuilt")),
  run: async (context, command) => {
    const kiln = await context.connect();
    const { signal } = context;
    if (command.opts<{ readonly wait?: boolean }>().wait === false) {
      return await beginEach(context, command.args, (reference) => kiln.images.verify(reference, { signal }));
    }
    await using progress = new ProgressBlock(context.host, { json: context.json });
    const verified = await Promise.allSettled(command.args.map((reference) => verifyOne(context, kiln, { reference, progress })));
    signal.throwIfAborted();
    const reports = verified.flatMap((one) => (one.status === "fulfilled" && one.value.report !== null ? [one.value.report] : []));
    if (!context.json) for (const report of reports) await context.print(`${renderReport(report)}\n`);
    else if (reports.length > 0) await context.printJson(command.args.length === 1 ? reports[0] : reports);
    const errors = verified.flatMap((one) => (one.status === "rejected" ? [asKilnError(one.reason)] : (one.value.error ?? [])));
    return await tellFailures(context, errors);
  },
};
export default spec;
