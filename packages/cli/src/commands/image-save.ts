import { examples, type CommandSpec } from "../command-spec.ts";

const spec: CommandSpec = {
  configure: (command) =>
    command
      .argument("<image...>", "names, or digests and their beginnings")
      .option("-o, --output <file>", "write to a file (default: stdout, if that is no terminal)")
      .option("-q, --quiet", "show no progress")
      .addHelpText(
        "after",
        `\nThe archive is an OCI layout and one of docker's at once: docker, podman, skopeo and \`kiln load\` read it.\n${examples(
          "kiln save -o alpine.tar alpine:3.20",
          "kiln save alpine debian | ssh host kiln load",
          "skopeo copy oci-archive:alpine.tar docker://registry.example/alpine",
        )}`,
      ),
  run: async (context, command) => {
    const { output, quiet } = command.opts<{ readonly output?: string; readonly quiet?: boolean }>();
    const { saveImages } = await import("../images/save.ts");
    return saveImages(context, { images: command.args, output: output ?? null, quiet: quiet ?? false });
  },
};
export default spec;
