import { socketPathOf } from "@kiln/sdk/node";
import type { DaemonStatus } from "@kiln/protocol";
import { examples, type CommandSpec } from "../command-spec.ts";
import { daemonAnswers } from "../daemon/probe.ts";
import { formatBytes } from "../render/units.ts";

/** LSB's code of a program that does not run. */
const NOT_RUNNING_EXIT = 3;

const render = (status: DaemonStatus): string => {
  const { memoryBytes, boots } = status.capacity;
  const drivers = status.drivers.map(
    (driver) =>
      `${driver.name} ${driver.version ?? ""} (${[driver.accel, driver.reason].filter((part) => part !== null && part !== "").join(", ")})`,
  );
  return [
    `running      pid ${status.pid}, version ${status.version}, since ${status.startedAt}`,
    `home         ${status.home}`,
    `socket       ${status.socket}`,
    `drivers      ${drivers.join("; ")}`,
    `VMs          ${status.vms.running} running, ${status.vms.total} in all`,
    `operations   ${status.operations.running} running, ${status.operations.queued} queued`,
    `memory       ${formatBytes(memoryBytes.reserved)} reserved of ${formatBytes(memoryBytes.total)}`,
    `boots        ${boots.running} running, ${boots.queued} queued, limit ${boots.limit}`,
    ...status.pool.map(
      ({ cpus, memoryBytes: bytes, wanted, ready }) =>
        `pool         ${ready} of ${wanted} ready: ${cpus} CPU${cpus === 1 ? "" : "s"}, ${formatBytes(bytes)}`,
    ),
    "",
  ].join("\n");
};

const spec: CommandSpec = {
  configure: (command) => command.addHelpText("after", examples("kiln daemon status", "kiln daemon status --json")),
  run: async (context) => {
    const home = await context.home();
    const socket = socketPathOf(home);
    if (!(await daemonAnswers(socket))) {
      if (context.json) await context.printJson({ running: false, home, socket });
      else await context.print(`the daemon of ${home} does not run\n`);
      return NOT_RUNNING_EXIT;
    }
    const kiln = await context.client();
    const status = await kiln.daemon.status({ signal: context.signal });
    if (context.json) await context.printJson(status);
    else await context.print(render(status));
    return 0;
  },
};
export default spec;
