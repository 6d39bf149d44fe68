import { examples, type CommandSpec } from "../command-spec.ts";
import { PLATFORM_HELP } from "../images/transport.ts";
import { parsePlatform } from "../arguments/platform.ts";

interface LoadOptions {
  readonly input?: string;
  readonly name?: string;
  readonly platform?: string;
  readonly quiet?: boolean;
}

const spec: CommandSpec = {
  configure: (command) =>
    command
      .option("-i, --input <file>", "an archive of docker, podman, skopeo or Kiln, packed or not (default: stdin)")
      .option("--name <name>", "NAME[:TAG] of the archive's only image")
      .option("--platform <platform>", PLATFORM_HELP, parsePlatform)
      .option("-q, --quiet", "show no progress")
      .addHelpText(
        "after",
        examples("docker save alpine | kiln load", "kiln load -i images.tar.gz", "kiln load -i tool.tar --name tool:1.2"),
      ),
  run: async (context, command) => {
    const { input, name, platform, quiet } = command.opts<LoadOptions>();
    const { loadArchive } = await import("../images/load.ts");
    return loadArchive(context, { path: input ?? null, name: name ?? null, platform: platform ?? null, quiet: quiet ?? false });
  },
};
export default spec;
