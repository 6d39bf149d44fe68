import type { ImageView } from "@kiln/protocol";
import { KilnError } from "@kiln/protocol/errors";
import type { Kiln } from "@kiln/sdk";
import { examples, type CommandSpec } from "../command-spec.ts";
import type { CommandContext } from "../context.ts";
import { importLayout } from "../images/import.ts";
import { isLayoutReference } from "../images/layout.ts";
import { forEachName } from "../names.ts";
import { followOperation } from "../operation.ts";
import { ProgressLine } from "../render/progress.ts";
import { escapeControl } from "../render/escape.ts";

interface Pulled {
  readonly image: ImageView;
  readonly upToDate: boolean;
}

const pullOne = async (
  context: CommandContext,
  kiln: Kiln,
  from: { readonly reference: string; readonly progress: ProgressLine },
): Promise<Pulled> => {
  const { reference, progress } = from;
  const { signal } = context;
  const before = (await kiln.images.list({ signal })).find((image) => image.reference === reference);
  if (isLayoutReference(reference)) {
    const { image } = await importLayout(context, kiln, { reference, progress });
    return { image, upToDate: before?.digest === image.digest };
  }
  const { result } = await followOperation(context, await kiln.images.pull(reference, { signal }), { kiln, progress, cancel: true });
  const after = await kiln.images.list({ signal });
  const image = after.find((one) => one.reference === reference) ?? after.find((one) => one.digest === result);
  if (image === undefined) throw new KilnError("IMAGE_NOT_FOUND", `${reference} was pulled and removed again`, { object: reference });
  return { image, upToDate: before !== undefined && before.digest === image.digest };
};

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<image...>", "oci:DIR[:TAG] or deb:PACKAGE[,PACKAGE…]")
      .addHelpText("after", examples("kiln pull deb:busybox-static", "kiln pull oci:./alpine:latest")),
  run: async (context, command) => {
    const kiln = await context.connect();
    await using progress = new ProgressLine(context.host, { json: context.json });
    return await forEachName(context, {
      names: command.args,
      act: async (reference) => {
        const { image, upToDate } = await pullOne(context, kiln, { reference, progress });
        return { ...image, upToDate };
      },
      print: (image) => `${escapeControl(image.reference)}\n  ${image.digest}${image.upToDate ? "\n  up to date" : ""}`,
    });
  },
};
export default spec;
