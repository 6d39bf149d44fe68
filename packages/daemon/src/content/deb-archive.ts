import { KilnError } from "@kiln/protocol";
import { runTool, ToolError } from "@kiln/std/node";

/**
 * Gives the tar of the files in a .deb to `consume`, unpacked, as it comes out of dpkg-deb; no maintainer script runs.
 * Returning means that dpkg-deb has ended. Throws PACKAGE_FETCH_FAILED, HOST_TOOL_MISSING, what `consume` throws, or
 * the signal's reason.
 */
export const readDebTar = async <Result>(
  path: string,
  consume: (tar: AsyncIterable<Uint8Array>) => Promise<Result>,
  options: { signal: AbortSignal },
): Promise<Result> => {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const writer = writable.getWriter();
  const consumed = consume(readable);
  const produced = produce(path, writer, options.signal);
  const [result, end] = await Promise.allSettled([consumed, produced]);
  // where both failed, the consumer has the error itself: dpkg-deb's comes to it through the stream, its own goes nowhere
  if (result.status === "rejected") throw debError(path, result.reason);
  if (end.status === "rejected") throw debError(path, end.reason);
  return result.value;
};

const produce = async (path: string, writer: WritableStreamDefaultWriter<Uint8Array>, signal: AbortSignal): Promise<void> => {
  try {
    await runTool("dpkg-deb", ["--fsys-tarfile", path], { signal, onStdout: (chunk) => writer.write(chunk) });
    await writer.close();
  } catch (error) {
    await writer.abort(error);
    throw error;
  }
};

const debError = (path: string, error: unknown): unknown => {
  if (!(error instanceof ToolError)) return error;
  if (error.code === "ENOENT")
    return new KilnError("HOST_TOOL_MISSING", "dpkg-deb is not there: deb: images and kernels need a Debian host", { cause: error });
  return new KilnError("PACKAGE_FETCH_FAILED", `the package ${path.split("/").at(-1)} cannot be unpacked`, { cause: error });
};
