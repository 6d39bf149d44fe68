/** What follows an image or a VM belongs to the guest; one `--` right behind the name only separates. */
export const guestCommand = (rest: readonly string[]): string[] => [...(rest[0] === "--" ? rest.slice(1) : rest)];
