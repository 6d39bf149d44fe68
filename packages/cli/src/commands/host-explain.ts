import { examples, type CommandSpec } from "../command-spec.ts";
import { renderExplanation } from "../render/explanation.ts";

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<subject>", "a VM, an operation, an image, or the digest of a blob, a rootfs or a kernel")
      .addHelpText(
        "after",
        `\nWhat it waited for, whose work it shared, why it was refused, what holds it, and what happened to it.\n${examples(
          "kiln explain web",
          "kiln explain op_0123456789abcdef",
          "kiln explain --json alpine",
        )}`,
      ),
  run: async (context, command) => {
    const [subject = ""] = command.args;
    const kiln = await context.connect();
    const explanation = await kiln.explain(subject, { signal: context.signal });
    if (context.json) await context.printJson(explanation);
    else await context.print(renderExplanation(explanation));
  },
};
export default spec;
