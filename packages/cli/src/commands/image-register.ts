import { type ConfigOptions, configChanges, declareConfigOptions } from "../arguments/config-changes.ts";
import { parseEnvironment } from "../arguments/environment.ts";
import { parsePlatform } from "../arguments/platform.ts";
import { collect, examples, type CommandSpec } from "../command-spec.ts";
import type { RegisterOptions } from "../images/register.ts";
import { NO_WAIT_HELP, PLATFORM_HELP } from "../images/transport.ts";

interface Options extends RegisterOptions, ConfigOptions {
  readonly name: string;
  readonly env?: readonly string[];
  readonly workdir?: string;
  readonly user?: string;
  readonly platform?: string;
}

const spec: CommandSpec = {
  configure: (command) =>
    declareConfigOptions(
      command.argument("<file>", "an ext4 file system").requiredOption("-n, --name <name>", "the new image's NAME[:TAG]"),
    )
      .option("-e, --env <pair>", "set NAME=VALUE in the image, or NAME to the caller's value; may be repeated", collect)
      .option("-w, --workdir <dir>", "the image's working directory")
      .option("-u, --user <user>", "the image's user")
      .option("--platform <platform>", PLATFORM_HELP, parsePlatform)
      .option("--replace", "the name may be that of another image, which loses it")
      .option("-q, --quiet", "show no progress, and print the digest only")
      .option("--no-wait", NO_WAIT_HELP)
      .addHelpText(
        "after",
        `\nThe whole file system is read before it becomes an image, and it is what the image's VMs boot from, byte for byte.\n${examples(
          "mke2fs -t ext4 -d tree root.ext4 1G && kiln image register root.ext4 --name mine",
          "kiln image register disk.ext4 --name tool:2 --cmd '[\"tool\"]' --env MODE=fast --replace",
        )}`,
      ),
  run: async (context, command) => {
    const options = command.opts<Options>();
    const { parseNewName } = await import("../images/registry.ts");
    const { sendAndFollow } = await import("../images/register.ts");
    const { command: cmd, entrypoint, labels } = configChanges(options);
    const config = {
      ...{ cmd: cmd ?? [], entrypoint: entrypoint ?? [], labels, env: parseEnvironment(options.env ?? [], context.host.env) },
      ...{ workingDir: options.workdir ?? "", user: options.user ?? "" },
    };
    const { replace = false, platform = null } = options;
    const request = { name: parseNewName(options.name), replace, platform, config };
    return sendAndFollow(context, { args: command.args, options }, (kiln, file) => kiln.images.register(file, request));
  },
};
export default spec;
