import type { CommandWords, OptionWord } from "./describe.ts";

const keyOf = (command: CommandWords): string => ["kiln", ...command.path].join(" ");

const optionWords = (option: OptionWord): string[] => (option.short === null ? [option.long] : [option.long, option.short]);

const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

type Named = "vm" | "image";

/** Commands whose arguments are names of VMs or of images: asked of the daemon when completing. */
const TAKES: ReadonlyMap<string, Named> = new Map([
  ...["start", "stop", "restart", "kill", "rm", "exec", "attach", "logs", "inspect", "wait", "explain"].map(
    (path) => [path, "vm"] as const,
  ),
  ...["port add", "port rm", "port ls"].map((path) => [path, "vm"] as const),
  ...["run", "create", "pull", "images", "rmi", "tag", "save"].map((path) => [path, "image"] as const),
  ...["ls", "inspect", "pull", "rm", "tag", "save"].map((word) => [`image ${word}`, "image"] as const),
]);

/** Shell commands that print the names, a line each. */
const NAMES: Readonly<Record<Named, string>> = {
  vm: `kiln ps -a --json 2>/dev/null | grep -o '"name":"[^"]*"' | cut -d'"' -f4`,
  image: "kiln images 2>/dev/null | tail -n +2 | cut -d' ' -f1",
};

const takes = (command: CommandWords): Named | undefined => TAKES.get(command.path.join(" "));

const wordsOf = (command: CommandWords): string =>
  [...command.commands.map(({ name }) => name), ...command.options.flatMap(optionWords)].join(" ");

export const renderBash = (commands: readonly CommandWords[]): string => `# kiln completion for bash
_kiln() {
  local cur=\${COMP_WORDS[COMP_CWORD]} path=kiln word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$path $word" in
${groupKeys(commands)}) path="$path $word" ;;
    esac
  done
  local words names=
  case "$path" in
${commands.map((command) => `  ${quote(keyOf(command))}) words=${quote(wordsOf(command))}${takes(command) === undefined ? "" : ` names=${takes(command)}`} ;;`).join("\n")}
  esac
  if [[ $cur != -* ]]; then
    case "$names" in
    vm) words=$(${NAMES.vm}) ;;
    image) words=$(${NAMES.image}) ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  if declare -F __ltrim_colon_completions >/dev/null; then __ltrim_colon_completions "$cur"; fi
}
complete -o default -F _kiln kiln
`;

const groupKeys = (commands: readonly CommandWords[]): string =>
  `    ${commands
    .filter((command) => command.path.length > 0)
    .map((command) => quote(keyOf(command)))
    .join(" | ")}`;

export const renderZsh = (commands: readonly CommandWords[]): string => `#compdef kiln
# kiln completion for zsh
_kiln() {
  local called=kiln word
  local -a words_of
  for word in "\${(@)words[2,CURRENT-1]}"; do
    case "$called $word" in
${groupKeys(commands)}) called="$called $word" ;;
    esac
  done
  case "$called" in
${commands.map((command) => `  ${quote(keyOf(command))}) words_of=(${zshWords(command)}) ;;`).join("\n")}
  esac
  case "$called" in
${(["vm", "image"] as const).map(zshNames).join("\n")}
  esac
  _describe 'kiln' words_of || _files
}
compdef _kiln kiln
`;

const zshNames = (named: Named): string => {
  const paths = [...TAKES].filter(([, one]) => one === named).map(([path]) => quote(`kiln ${path}`));
  return `  ${paths.join(" | ")}) if [[ $PREFIX != -* ]]; then compadd -- \${(f)"$(${NAMES[named]})"}; return; fi ;;`;
};

const zshWords = (command: CommandWords): string =>
  [
    ...command.commands.map(({ name, summary }) => quote(`${name}:${summary}`)),
    ...command.options.flatMap((option) =>
      optionWords(option).map((word) => quote(`${word}:${option.description.replaceAll(":", "\\:")}`)),
    ),
  ].join(" ");

const fishSeen = (command: CommandWords): string =>
  command.path.length === 0 ? "__fish_use_subcommand" : command.path.map((word) => `__fish_seen_subcommand_from ${word}`).join("; and ");

export const renderFish = (commands: readonly CommandWords[]): string => {
  const lines = commands.flatMap((command) => {
    const condition = `-n ${quote(fishSeen(command))}`;
    return [
      ...command.commands.map(({ name, summary }) => `complete -c kiln -f ${condition} -a ${name} -d ${quote(summary)}`),
      ...command.options.map((option) => `complete -c kiln ${condition} ${fishOption(option)} -d ${quote(option.description)}`),
      ...namesOf(command).map((names) => `complete -c kiln ${takes(command) === "vm" ? "-f " : ""}${condition} -a ${quote(`(${names})`)}`),
    ];
  });
  return `# kiln completion for fish\n${lines.join("\n")}\n`;
};

/** Names of VMs and nothing else; beside names of images files may stand (`oci:DIR`). */
const namesOf = (command: CommandWords): string[] => {
  const named = takes(command);
  return named === undefined ? [] : [NAMES[named]];
};

const fishOption = (option: OptionWord): string => {
  const long = option.long.startsWith("--") ? `-l ${option.long.slice(2)}` : `-s ${option.long.slice(1)}`;
  const short = option.short === null ? "" : ` -s ${option.short.slice(1)}`;
  const value = option.takesValue ? ` -r${option.choices.length > 0 ? ` -f -a ${quote(option.choices.join(" "))}` : ""}` : "";
  return `${long}${short}${value}`;
};
