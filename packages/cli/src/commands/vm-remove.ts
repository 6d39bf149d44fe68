import { KilnError } from "@kiln/protocol/errors";
import { examples, type CommandSpec } from "../command-spec.ts";
import { forEachName } from "../names.ts";
import { NO_WAIT_HELP } from "../images/transport.ts";
import { beginEach, followOperation } from "../operation.ts";
import { ProgressBlock } from "../render/progress.ts";

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<name...>", "VMs")
      .option("-f, --force", "end those that run; one that is not there is no error")
      .option("--no-wait", NO_WAIT_HELP)
      .addHelpText("after", examples("kiln rm web", "kiln rm -f web db", "kiln rm -f $(kiln ps -aq)", "kiln rm -f --no-wait web")),
  run: async (context, command) => {
    const { force = false, wait } = command.opts<{ readonly force?: boolean; readonly wait?: boolean }>();
    const kiln = await context.connect();
    const { signal } = context;
    if (wait === false) return beginEach(context, command.args, (name) => kiln.vms.remove(name, { force, signal }));
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
