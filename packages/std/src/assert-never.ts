/** Closes an exhaustive switch: it compiles only if no case is left, and throws if a value lied about its type. */
export function assertNever(value: never): never {
  throw new TypeError(`unexpected value: ${JSON.stringify(value)}`);
}
