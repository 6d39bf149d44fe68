import { examples, type CommandSpec } from "../command-spec.ts";
import { declarePruneOptions, runPrune, type PruneOptions } from "../prune.ts";

const spec: CommandSpec = {
  configure: (command) =>
    declarePruneOptions(command)
      .option("-a, --all", "all images that no VM uses, not only what no image has")
      .addHelpText("after", examples("kiln image prune", "kiln image prune -a --dry-run")),
  run: (context, command) => {
    const options = command.opts<PruneOptions & { readonly all?: boolean }>();
    const images = options.all ?? false;
    const what = images ? ["images that no VM uses"] : ["layers and rootfs that no image has"];
    return runPrune(context, { request: { vms: false, kernels: false, images }, what, options });
  },
};
export default spec;
