import { KilnError } from "@kiln/protocol/errors";
import { examples, type CommandSpec } from "../command-spec.ts";
import { forEachName } from "../names.ts";
import { followOperation } from "../operation.ts";
import { ProgressBlock } from "../render/progress.ts";

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<name...>", "VMs")
      .option("-f, --force", "end those that run; one that is not there is no error")
      .addHelpText("after", examples("kiln rm web", "kiln rm -f web db", "kiln rm -f $(kiln ps -aq)")),
  run: async (context, command) => {
    const { force = false } = command.opts<{ readonly force?: boolean }>();
    const kiln = await context.connect();
    const { signal } = context;
    await using progress = new ProgressBlock(context.host, { json: context.json });
    return await forEachName(context, {
      names: command.args,
      act: async (name) => {
        try {
          await followOperation(context, await kiln.vms.remove(name, { force, signal }), { kiln, progress, cancel: false });
          return { name, removed: true };
        } catch (error) {
          if (force && error instanceof KilnError && error.code === "VM_NOT_FOUND") return { name, removed: false };
          throw error;
        }
      },
      print: ({ removed }, name) => (removed ? name : null),
    });
  },
};
export default spec;
