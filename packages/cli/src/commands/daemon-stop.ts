import { socketPathOf } from "@kiln/sdk/node";
import { examples, type CommandSpec } from "../command-spec.ts";
import { stopDaemon } from "../daemon/stop.ts";

const spec: CommandSpec = {
  configure: (command) => command.addHelpText("after", examples("kiln daemon stop")),
  run: async (context) => {
    const home = await context.home();
    const stopped = await stopDaemon(context);
    if (context.json) await context.printJson({ running: false, home, socket: socketPathOf(home) });
    else await context.print(stopped ? "the daemon has stopped; VMs run on\n" : "the daemon does not run\n");
  },
};
export default spec;
