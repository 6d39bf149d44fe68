import { socketPathOf } from "@kiln/sdk/node";
import { KilnError } from "@kiln/protocol/errors";
import { systemClock } from "@kiln/std";
import { identifyProcess, processState } from "@kiln/std/node";
import { examples, type CommandSpec } from "../command-spec.ts";
import { daemonAnswers } from "../daemon/probe.ts";

/** A daemon that ends lets its requests finish. */
const STOP_TIMEOUT_MS = 30_000;
const POLL_MS = 25;

const spec: CommandSpec = {
  configure: (command) => command.addHelpText("after", examples("kiln daemon stop")),
  run: async (context) => {
    const home = await context.home();
    const socket = socketPathOf(home);
    const { signal } = context;
    const stopped = await daemonAnswers(socket);
    if (stopped) {
      const kiln = await context.client();
      const daemon = await identifyProcess((await kiln.daemon.status({ signal })).pid);
      await kiln.daemon.stop({ signal });
      const deadlineMs = systemClock.monotonicMs() + STOP_TIMEOUT_MS;
      while ((await daemonAnswers(socket)) || (daemon !== null && (await processState(daemon)) === "alive")) {
        if (systemClock.monotonicMs() > deadlineMs)
          throw new KilnError("DAEMON_UNREACHABLE", `the daemon of ${home} does not end`, {
            object: home,
            hint: "see its log, daemon.log in the home",
          });
        await systemClock.sleep(POLL_MS, { signal });
      }
    }
    if (context.json) await context.printJson({ running: false, home, socket });
    else await context.print(stopped ? "the daemon has stopped; VMs run on\n" : "the daemon does not run\n");
  },
};
export default spec;
