import { KilnError } from "@kiln/protocol/errors";
import { examples, type CommandSpec } from "../command-spec.ts";
import { describeCommands } from "../completion/describe.ts";
import { renderBash, renderFish, renderZsh } from "../completion/render.ts";

const RENDERERS = { bash: renderBash, zsh: renderZsh, fish: renderFish } as const;

const isShell = (name: string): name is keyof typeof RENDERERS => Object.hasOwn(RENDERERS, name);

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<shell>", "bash, zsh or fish")
      .addHelpText("after", examples('eval "$(kiln completion bash)"', "kiln completion fish > ~/.config/fish/completions/kiln.fish")),
  run: async (context, command) => {
    const [shell = ""] = command.args;
    if (!isShell(shell)) throw new KilnError("USAGE", `completion ${shell}: there are ${Object.keys(RENDERERS).join(", ")}`);
    await context.print(RENDERERS[shell](await describeCommands(command.parent ?? command)));
  },
};
export default spec;
