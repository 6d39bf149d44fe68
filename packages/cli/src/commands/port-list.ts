import { KilnError } from "@kiln/protocol/errors";
import { hostAddress, parseGuestPort } from "../arguments/ports.ts";
import { examples, type CommandSpec } from "../command-spec.ts";
import { escapeControl } from "../render/escape.ts";

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<name>", "a VM")
      .argument("[port]", "GUEST[/udp]: only where this port is to be found")
      .addHelpText("after", examples("kiln port web", "kiln port web 80", "kiln port ls web --json")),
  run: async (context, command) => {
    const [name = "", word] = command.args;
    const wanted = word === undefined ? null : parseGuestPort(word);
    const kiln = await context.connect();
    const all = await kiln.vms.ports(name, { signal: context.signal });
    const ports = all.filter((port) => wanted === null || (port.guestPort === wanted.guestPort && port.protocol === wanted.protocol));
    if (wanted !== null && ports.length === 0)
      throw new KilnError("PORT_NOT_FOUND", `the VM ${name} has not published ${wanted.guestPort}/${wanted.protocol}`, { object: name });
    if (context.json) return context.printJson(ports);
    const lines = ports.map((port) => (wanted === null ? `${port.guestPort}/${port.protocol} -> ` : "") + hostAddress(port));
    await context.print(lines.map((line) => `${escapeControl(line)}\n`).join(""));
  },
};
export default spec;
