import { hostAddress, parsePublish } from "../arguments/ports.ts";
import { examples, type CommandSpec } from "../command-spec.ts";
import { forEachName } from "../names.ts";
import { escapeControl } from "../render/escape.ts";

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<name>", "a VM, running or not")
      .argument("<port...>", "[IP:]HOST:GUEST[/udp]; without HOST a free port, without IP 127.0.0.1: this host alone")
      .addHelpText(
        "after",
        examples(
          "kiln port add web 8080:80",
          "kiln port add web 80",
          "kiln port add web 0.0.0.0:8080:80",
          "kiln port add dns [::1]:5353:53/udp",
        ),
      ),
  run: async (context, command) => {
    const [name = "", ...words] = command.args;
    const ports = new Map(words.map((word) => [word, parsePublish(word)]));
    const kiln = await context.connect();
    return forEachName(context, {
      names: words,
      act: (word) => kiln.vms.addPort(name, ports.get(word) ?? parsePublish(word), { signal: context.signal }),
      print: (port) => escapeControl(hostAddress(port)),
    });
  },
};
export default spec;
