import { examples, type CommandSpec } from "../command-spec.ts";

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<image...>", "names, or digests and their beginnings")
      .addHelpText("after", examples("kiln image inspect alpine", "kiln image inspect 3f5b8a0c1d2e | jq '.[0].config'")),
  run: async (context, command) => {
    const kiln = await context.connect();
    const images = await Promise.all(command.args.map((name) => kiln.images.inspect(name, { signal: context.signal })));
    if (context.json) await context.printJson(images);
    else await context.print(`${JSON.stringify(images, null, 2)}\n`);
  },
};
export default spec;
