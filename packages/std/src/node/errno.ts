/** Whether `error` is a system error with one of these codes ("ENOENT", …): the way to expect an errno by name. */
export function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  if (!(error instanceof Error) || !("code" in error)) return false;
  return typeof error.code === "string" && codes.includes(error.code);
}
