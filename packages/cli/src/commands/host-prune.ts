import { examples, type CommandSpec } from "../command-spec.ts";
import { declarePruneOptions, runPrune, type PruneOptions } from "../prune.ts";

const spec: CommandSpec = {
  configure: (command) =>
    declarePruneOptions(command)
      .option("-a, --all", "also images that no VM uses")
      .addHelpText("after", examples("kiln prune", "kiln prune --dry-run", "kiln prune -af")),
  run: (context, command) => {
    const options = command.opts<PruneOptions & { readonly all?: boolean }>();
    const images = options.all ?? false;
    const what = [
      "VMs that have exited or failed",
      "kernels that no VM uses and that are not the newest",
      images ? "images that no VM uses" : "layers and rootfs that no image has",
    ];
    return runPrune(context, { request: { vms: true, kernels: true, images }, what, options });
  },
};
export default spec;
