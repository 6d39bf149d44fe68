/** Writes guest/agent/src/wire_constants.h from the protocol's tables: `node scripts/generate-wire.ts`. */
import { writeFile } from "node:fs/promises";
import {
  EXEC_FLAGS,
  EXEC_STATES,
  FRAME_TYPES,
  OPS,
  OUTPUT_STREAMS,
  OVERFLOWS,
  PROTOCOLS,
  TAGS,
  WIRE,
  WIRE_ERRORS,
  WIRE_MAGIC,
  WIRE_PORT_NAME,
} from "@kiln/protocol/wire";

export const WIRE_HEADER_PATH = new URL("../guest/agent/src/wire_constants.h", import.meta.url);

const macroName = (name: string): string => name.replace(/([a-z])([A-Z])/g, "$1_$2").toUpperCase();

const defines = (prefix: string, table: Readonly<Record<string, number>>): string =>
  Object.entries(table)
    .map(([name, value]) => `#define ${prefix}_${macroName(name)} ${value}u\n`)
    .join("");

/** The header's text: a pure function of the tables. */
export const wireHeader = (): string =>
  [
    "/* Generated from packages/protocol/src/wire/constants.ts by scripts/generate-wire.ts. */\n#ifndef KILN_WIRE_CONSTANTS_H\n#define KILN_WIRE_CONSTANTS_H\n",
    `#define WIRE_MAGIC ${JSON.stringify(WIRE_MAGIC)}\n#define WIRE_PORT_NAME ${JSON.stringify(WIRE_PORT_NAME)}\n${defines("WIRE", WIRE)}`,
    defines("FRAME", FRAME_TYPES),
    defines("OP", OPS),
    defines("ERROR", WIRE_ERRORS),
    defines("TAG", TAGS),
    defines("OUTPUT", OUTPUT_STREAMS),
    defines("OVERFLOW", OVERFLOWS),
    defines("PROTOCOL", PROTOCOLS),
    defines("STATE", EXEC_STATES),
    defines("EXEC_FLAG", EXEC_FLAGS),
    "#endif\n",
  ].join("\n");

if (import.meta.main) await writeFile(WIRE_HEADER_PATH, wireHeader());
