import { KilnError } from "@kiln/protocol/errors";
import { examples, type CommandSpec } from "../command-spec.ts";
import { beforeCommand } from "../failure.ts";
import { createRequest, declareCreateOptions, type CreateOptions } from "../guest/create-options.ts";
import { beginVm, createVm } from "../guest/create-vm.ts";
import { runForeground } from "../guest/foreground.ts";
import { NO_WAIT_HELP } from "../images/transport.ts";
import { printBegun } from "../operation.ts";

interface RunOptions extends CreateOptions {
  readonly detach?: boolean;
  /** false with --no-wait. */
  readonly wait?: boolean;
}

const spec: CommandSpec = {
  configure: (command) =>
    declareCreateOptions(command)
      .option("-d, --detach", "leave the VM running and print its id")
      .option("--no-wait", `with -d or --idle: ${NO_WAIT_HELP}`)
      .addHelpText(
        "after",
        examples(
          "kiln run --rm -it alpine sh",
          "kiln run --rm 127.0.0.1:5000/team/tool:1.2 --version",
          "kiln run --rm docker-archive:tool.tar tool",
          "kiln run --rm deb:busybox-static busybox uname -a",
          "kiln run -d --name web -m 1g -e PORT=8080 oci:./web",
          "kiln run -d --idle --name box oci:./alpine:latest",
          "kiln run --rm --network none oci:./tool",
        ),
      ),
  run: async (context, command) => {
    const options = command.opts<RunOptions>();
    try {
      const request = await createRequest(context, command.args, { options, detach: options.detach ?? false });
      // An idle VM has no command to wait for.
      const isDetached = options.detach === true || options.idle === true;
      if (options.wait === false) {
        if (!isDetached) throw new KilnError("USAGE", "--no-wait needs -d: a command in the foreground is waited for");
        await printBegun(context, await beginVm(context, { ...request, start: true }));
        return 0;
      }
      if (isDetached) {
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
