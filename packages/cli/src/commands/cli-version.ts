import { readFile } from "node:fs/promises";
import { examples, type CommandSpec } from "../command-spec.ts";

const packageVersion = async (): Promise<string> => {
  const manifest = JSON.parse(await readFile(new URL("../../package.json", import.meta.url), "utf8")) as { readonly version: string };
  return manifest.version;
};

const spec: CommandSpec = {
  configure: (command) => command.addHelpText("after", examples("kiln version", "kiln version --json")),
  run: async (context) => {
    const version = await packageVersion();
    if (context.json)
      await context.printJson({ version, apiVersion: "v1", node: process.versions.node, platform: process.platform, arch: process.arch });
    else await context.print(`kiln ${version}\n`);
  },
};
export default spec;
