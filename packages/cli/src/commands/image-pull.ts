import type { ImageView, OperationView } from "@kiln/protocol";
import { familiarName } from "@kiln/formats/oci/reference";
import { KilnError } from "@kiln/protocol/errors";
import type { Kiln } from "@kiln/sdk";
import { parsePlatform } from "../arguments/platform.ts";
import { examples, type CommandSpec } from "../command-spec.ts";
import type { CommandContext } from "../context.ts";
import { IMAGE_HELP, localTransport, NO_WAIT_HELP, PLAIN_HTTP_HELP, PLATFORM_HELP } from "../images/transport.ts";
import { forEachName } from "../names.ts";
import { beginEach, followOperation } from "../operation.ts";
import { escapeControl } from "../render/escape.ts";
import { ProgressBlock } from "../render/progress.ts";

interface PullOptions {
  readonly platform?: string;
  readonly plainHttp?: boolean;
  readonly quiet?: boolean;
  /** false with --no-wait. */
  readonly wait?: boolean;
}

interface Pulling {
  readonly reference: string;
  readonly options: PullOptions;
  readonly progress: ProgressBlock;
}

interface Pulled {
  readonly image: ImageView;
  readonly upToDate: boolean;
}

const beginPull = async (context: CommandContext, kiln: Kiln, { reference, options }: Pulling): Promise<OperationView> => {
  if (localTransport(reference) !== null) {
    throw new KilnError("USAGE", `--no-wait: ${reference} is sent by this command, which has to wait for it`, {
      hint: "leave out --no-wait",
    });
  }
  const { credentialsFor } = await import("../images/registry.ts");
  const credentials = await credentialsFor(context, reference, async () => false);
  const { platform, plainHttp } = options;
  return kiln.images.pull(reference, { pull: "always", platform, plainHttp, credentials, signal: context.signal });
};

const pullOne = async (context: CommandContext, kiln: Kiln, pulling: Pulling): Promise<Pulled> => {
  const { reference, progress, options } = pulling;
  const { signal } = context;
  const { recordedName } = await import("../images/registry.ts");
  const name = recordedName(reference);
  const before = (await kiln.images.list({ signal })).find((image) => image.reference === name);
  const transport = localTransport(reference);
  if (transport !== null) {
    const { importLocalImage } = await import("../images/import.ts");
    const importing = { transport, reference, platform: options.platform ?? null, progress };
    const { image } = await importLocalImage(context, kiln, importing);
    return { image, upToDate: before?.digest === image.digest };
  }
  const operation = await beginPull(context, kiln, pulling);
  const { result } = await followOperation(context, operation, { kiln, progress, cancel: true });
  const after = await kiln.images.list({ signal });
  const image = after.find((one) => one.reference === name) ?? after.find((one) => one.digest === result);
  if (image === undefined) throw new KilnError("IMAGE_NOT_FOUND", `${reference} was pulled and removed again`, { object: reference });
  return { image, upToDate: before?.digest === image.digest };
};

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<image...>", IMAGE_HELP)
      .option("--platform <platform>", PLATFORM_HELP, parsePlatform)
      .option("--plain-http", PLAIN_HTTP_HELP)
      .option("-q, --quiet", "show no progress, and print names only")
      .option("--no-wait", NO_WAIT_HELP)
      .addHelpText(
        "after",
        examples(
          "kiln pull alpine:3.20 debian",
          "kiln pull --platform linux/arm64 127.0.0.1:5000/team/tool",
          "kiln pull oci-archive:tool.tar:1.2",
          "kiln pull deb:busybox-static",
        ),
      ),
  run: async (context, command) => {
    const options = command.opts<PullOptions>();
    const kiln = await context.connect();
    const { quiet = false } = options;
    await using progress = new ProgressBlock(context.host, { json: context.json, quiet });
    if (options.wait === false) {
      return await beginEach(context, command.args, (reference) => beginPull(context, kiln, { reference, options, progress }));
    }
    return await forEachName(context, {
      names: command.args,
      act: async (reference) => {
        const { image, upToDate } = await pullOne(context, kiln, { reference, options, progress });
        return { ...image, upToDate };
      },
      print: (image, name) => {
        if (quiet) return escapeControl(image.reference);
        const how = image.upToDate ? "up to date" : localTransport(name) === null ? "downloaded" : "imported";
        return `${escapeControl(familiarName(image.reference))}\n  ${image.digest}\n  ${how}`;
      },
    });
  },
};
export default spec;
