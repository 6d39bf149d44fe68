import { parseGuestPort, parsePublish } from "../arguments/ports.ts";
import { examples, type CommandSpec } from "../command-spec.ts";
import { forEachName } from "../names.ts";

/** One address, or with a guest's port alone all that lead to it. */
const parseRemoval = (word: string) => {
  if (!word.includes(":")) return parseGuestPort(word);
  const { hostIp, hostPort = 0, ...rest } = parsePublish(word);
  return { ...rest, ...(hostIp === undefined ? {} : { hostIp }), ...(hostPort === 0 ? {} : { hostPort }) };
};

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<name>", "a VM, running or not")
      .argument("<port...>", "GUEST[/udp] for all that lead there, or [IP:]HOST:GUEST[/udp] for one")
      .addHelpText("after", examples("kiln port rm web 80", "kiln port rm web 8080:80", "kiln port rm dns 53/udp")),
  run: async (context, command) => {
    const [name = "", ...words] = command.args;
    const removals = new Map(words.map((word) => [word, parseRemoval(word)]));
    const kiln = await context.connect();
    return forEachName(context, {
      names: words,
      act: async (word) => {
        const port = removals.get(word) ?? parseRemoval(word);
        await kiln.vms.removePort(name, port, { signal: context.signal });
        return { name, port: word };
      },
      print: (_, word) => word,
    });
  },
};
export default spec;
