import { parseSignal } from "../arguments/signals.ts";
import { examples, type CommandSpec } from "../command-spec.ts";
import { forEachName } from "../names.ts";

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<name...>", "VMs")
      .option("-s, --signal <signal>", "name or number (default: KILL)", parseSignal)
      .addHelpText("after", examples("kiln kill web", "kiln kill -s HUP web")),
  run: async (context, command) => {
    const { signal: signalName = "SIGKILL" } = command.opts<{ readonly signal?: string }>();
    const kiln = await context.connect();
    return forEachName(context, {
      names: command.args,
      act: async (name) => {
        await kiln.vms.kill(name, { signalName, signal: context.signal });
        return { name, signal: signalName };
      },
      print: (_, name) => name,
    });
  },
};
export default spec;
