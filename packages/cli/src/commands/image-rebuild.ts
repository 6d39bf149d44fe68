import { familiarName } from "@kiln/formats/oci/reference";
import type { OperationView } from "@kiln/protocol";
import type { Kiln } from "@kiln/sdk";
import { examples, type CommandSpec } from "../command-spec.ts";
import type { CommandContext } from "../context.ts";
import { NO_WAIT_HELP, PLAIN_HTTP_HELP } from "../images/transport.ts";
import { forEachName } from "../names.ts";
import { beginEach, followOperation } from "../operation.ts";
import { escapeControl } from "../render/escape.ts";
import { ProgressBlock } from "../render/progress.ts";

interface RebuildOptions {
  readonly plainHttp?: boolean;
  /** false with --no-wait. */
  readonly wait?: boolean;
}

const begin = async (
  context: CommandContext,
  kiln: Kiln,
  asked: { name: string; plainHttp: boolean | undefined },
): Promise<OperationView> => {
  const { signal } = context;
  const { reference } = await kiln.images.inspect(asked.name, { signal });
  const { credentialsFor } = await import("../images/registry.ts");
  const credentials = await credentialsFor(context, reference, async () => false);
  return kiln.images.rebuild(asked.name, { plainHttp: asked.plainHttp, credentials, signal });
};

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<image...>", "images that are there: names, or digests and their beginnings")
      .option("--plain-http", PLAIN_HTTP_HELP)
      .option("--no-wait", NO_WAIT_HELP)
      .addHelpText("after", examples("kiln image rebuild alpine", "kiln image rebuild alpine --json | jq .fetched")),
  run: async (context, command) => {
    const { plainHttp, wait } = command.opts<RebuildOptions>();
    const kiln = await context.connect();
    if (wait === false) return await beginEach(context, command.args, (name) => begin(context, kiln, { name, plainHttp }));
    await using progress = new ProgressBlock(context.host, { json: context.json });
    return await forEachName(context, {
      names: command.args,
      act: async (name) => {
        const operation = await begin(context, kiln, { name, plainHttp });
        const { report } = await followOperation(context, operation, { kiln, progress, cancel: true });
        return report;
      },
      print: (report) => {
        if (report?.kind !== "image.rebuild") return null;
        const { reference, before, digest, fetched } = report;
        const how = before === null ? "built" : before === digest ? "built again with the same bytes" : "built again with other bytes";
        const lines = [escapeControl(familiarName(reference)), `  ${digest}`, `  ${how}`, ...fetched.map((blob) => `  fetched ${blob}`)];
        return lines.join("\n");
      },
    });
  },
};
export default spec;
