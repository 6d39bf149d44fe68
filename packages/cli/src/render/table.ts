import { escapeControl } from "./escape.ts";

/** Columns as wide as their widest cell, three spaces apart, as docker prints them. Cells are escaped. */
export const renderTable = (header: readonly string[], rows: readonly (readonly string[])[]): string => {
  const cells = [header, ...rows.map((row) => row.map(escapeControl))];
  const widths = header.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("   ")
      .trimEnd();
  return `${cells.map(line).join("\n")}\n`;
};

export const ellipsis = (text: string, length: number): string => (text.length <= length ? text : `${text.slice(0, length - 1)}…`);
