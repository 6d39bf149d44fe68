import { Ext4Error, Ext4ReadError } from "@kiln/formats/ext4";
import { TarError } from "@kiln/formats/tar";
import { LayerFailure } from "./build.ts";
import { RoomError, SinkFailure } from "./file-sink.ts";
import { DiffIdError, ExpansionError, TrailingBytesError } from "./layer-stream.ts";
import type { BuildFailure } from "./messages.ts";

const TOO_LARGE: ReadonlySet<string> = new Set(["TOO_LARGE", "TOO_MANY_ENTRIES"]);

const codeOf = (error: unknown): string | null =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : null;

/** node:zlib's codes: Z_DATA_ERROR, Z_BUF_ERROR, ZSTD_error_prefix_unknown, ERR_… of a stream cut off. */
const isZlibCode = (code: string | null): boolean => code !== null && /^(Z_|ZSTD_|ERR_ZSTD|ERR_BUFFER_TOO_LARGE|ERR__ERROR)/.test(code);

const OF_A_LAYER = [TarError, Ext4Error, Ext4ReadError, DiffIdError, TrailingBytesError] as const;

const kindOf = (error: unknown, code: string | null): BuildFailure["kind"] => {
  if (error instanceof ExpansionError || (error instanceof Ext4Error && TOO_LARGE.has(error.code))) return "too-large";
  if (OF_A_LAYER.some((type) => error instanceof type) || isZlibCode(code)) return "layer";
  return error instanceof RoomError || (error instanceof Error && "errno" in error) ? "system" : "defect";
};

/** What crosses to the thread that asked, sorted by what it means to the caller. */
export const describeFailure = (thrown: unknown): BuildFailure => {
  const layer = thrown instanceof LayerFailure ? thrown.layer : null;
  const wrapped = thrown instanceof LayerFailure || thrown instanceof SinkFailure;
  const error: unknown = wrapped && thrown.cause !== undefined ? thrown.cause : thrown;
  const code = codeOf(error);
  return {
    kind: kindOf(error, code),
    layer: layer?.diffId ?? null,
    name: error instanceof Error ? error.name : "Error",
    message: error instanceof Error ? error.message : String(error),
    code,
  };
};
