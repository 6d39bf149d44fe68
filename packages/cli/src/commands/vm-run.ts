import { examples, type CommandSpec } from "../command-spec.ts";
import { beforeCommand } from "../failure.ts";
import { createRequest, declareCreateOptions, type CreateOptions } from "../guest/create-options.ts";
import { createVm } from "../guest/create-vm.ts";
import { runForeground } from "../guest/foreground.ts";

interface RunOptions extends CreateOptions {
  readonly detach?: boolean;
}

const spec: CommandSpec = {
  configure: (command) =>
    declareCreateOptions(command)
      .option("-d, --detach", "leave the VM running and print its id")
      .addHelpText(
        "after",
        examples(
          "kiln run --rm deb:busybox-static busybox uname -a",
          "kiln run --rm -it oci:./alpine:latest sh",
          "kiln run -d --name web -m 1g -e PORT=8080 oci:./web",
          "kiln run -d --idle --name box oci:./alpine:latest",
        ),
      ),
  run: async (context, command) => {
    const options = command.opts<RunOptions>();
    try {
      const request = await createRequest(context, command.args, { options, detach: options.detach ?? false });
      // An idle VM has no command to wait for.
      if (options.detach === true || options.idle === true) {
        const vm = await createVm(context, { ...request, start: true });
        if (context.json) await context.printJson(vm);
        else await context.print(`${vm.id}\n`);
        return 0;
      }
      return await runForeground(context, request);
    } catch (thrown) {
      throw beforeCommand(thrown);
    }
  },
};
export default spec;
