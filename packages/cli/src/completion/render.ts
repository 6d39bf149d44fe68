import type { CommandWords, OptionWord } from "./describe.ts";

const keyOf = (command: CommandWords): string => ["kiln", ...command.path].join(" ");

const optionWords = (option: OptionWord): string[] => (option.short === null ? [option.long] : [option.long, option.short]);

const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/** Commands whose arguments are names of VMs: asked of the daemon when completing. */
const TAKES_NAMES = new Set(["start", "stop", "restart", "kill", "rm", "exec", "attach", "logs", "inspect", "wait"]);

const NAMES = `kiln ps -a --json 2>/dev/null | grep -o '"name":"[^"]*"' | cut -d'"' -f4`;

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
${commands.map((command) => `  ${quote(keyOf(command))}) words=${quote(wordsOf(command))}${TAKES_NAMES.has(command.path.join(" ")) ? " names=1" : ""} ;;`).join("\n")}
  esac
  if [[ -n $names && $cur != -* ]]; then words=$(${NAMES}); fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
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
  local path=kiln word
  local -a words_of
  for word in "\${(@)words[2,CURRENT-1]}"; do
    case "$path $word" in
${groupKeys(commands)}) path="$path $word" ;;
    esac
  done
  case "$path" in
${commands.map((command) => `  ${quote(keyOf(command))}) words_of=(${zshWords(command)}) ;;`).join("\n")}
  esac
  case "$path" in
  ${[...TAKES_NAMES].map((name) => quote(`kiln ${name}`)).join(" | ")}) if [[ $PREFIX != -* ]]; then compadd -- \${(f)"$(${NAMES})"}; return; fi ;;
  esac
  _describe 'kiln' words_of || _files
}
compdef _kiln kiln
`;

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
      ...(TAKES_NAMES.has(command.path.join(" ")) ? [`complete -c kiln -f ${condition} -a ${quote(`(${NAMES})`)}`] : []),
    ];
  });
  return `# kiln completion for fish\n${lines.join("\n")}\n`;
};

const fishOption = (option: OptionWord): string => {
  const long = option.long.startsWith("--") ? `-l ${option.long.slice(2)}` : `-s ${option.long.slice(1)}`;
  const short = option.short === null ? "" : ` -s ${option.short.slice(1)}`;
  const value = option.takesValue ? ` -r${option.choices.length > 0 ? ` -f -a ${quote(option.choices.join(" "))}` : ""}` : "";
  return `${long}${short}${value}`;
};
