import { examples, type CommandSpec } from "../command-spec.ts";
import { createRequest, declareCreateOptions, type CreateOptions } from "../guest/create-options.ts";
import { createVm } from "../guest/create-vm.ts";

const spec: CommandSpec = {
  configure: (command) =>
    declareCreateOptions(command).addHelpText("after", examples("kiln create --name web oci:./web", "kiln start web")),
  run: async (context, command) => {
    const request = await createRequest(context, command.args, { options: command.opts<CreateOptions>(), detach: true });
    const vm = await createVm(context, { ...request, start: false });
    if (context.json) await context.printJson(vm);
    else await context.print(`${vm.id}\n`);
  },
};
export default spec;
