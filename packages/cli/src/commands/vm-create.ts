import { examples, type CommandSpec } from "../command-spec.ts";
import { createRequest, declareCreateOptions, type CreateOptions } from "../guest/create-options.ts";
import { beginVm, createVm } from "../guest/create-vm.ts";
import { NO_WAIT_HELP } from "../images/transport.ts";
import { printBegun } from "../operation.ts";

const spec: CommandSpec = {
  configure: (command) =>
    declareCreateOptions(command)
      .option("--no-wait", NO_WAIT_HELP)
      .addHelpText("after", examples("kiln create --name web alpine:3.20", "kiln create --name box oci:./box", "kiln start web")),
  run: async (context, command) => {
    const options = command.opts<CreateOptions & { readonly wait?: boolean }>();
    const request = { ...(await createRequest(context, command.args, { options, detach: true })), start: false };
    if (options.wait === false) return printBegun(context, await beginVm(context, request));
    const vm = await createVm(context, request);
    if (context.json) await context.printJson(vm);
    else await context.print(`${vm.id}\n`);
  },
};
export default spec;
