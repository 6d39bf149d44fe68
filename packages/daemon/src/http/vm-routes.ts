import {
  createVmRequest,
  encodeDataFrame,
  killVmRequest,
  LENGTH_PREFIX_BYTES,
  portRequest,
  removePort,
  stopVmRequest,
} from "@kiln/protocol";
import { type Context, Hono } from "hono";
import { z } from "zod";
import { beginCreateVm } from "../operations/create-vm.ts";
import { getVm } from "../operations/find-vm.ts";
import { addPort, removePorts } from "../operations/ports.ts";
import { beginRemoveVm } from "../operations/remove-vm.ts";
import { beginStartVm } from "../operations/start-vm.ts";
import { beginStopVm, killVm } from "../operations/stop-vm.ts";
import { readLog } from "../operations/read-log.ts";
import { readConsole } from "../operations/stream-vm.ts";
import { waitForVm } from "../operations/wait-vm.ts";
import { shownVms, toVmView, vmListBytes } from "../vms/record.ts";
import { toPortView } from "../vms/ports.ts";
import { answerBegun } from "./begun.ts";
import type { ApiParts } from "./parts.ts";
import { callerFacts, parameter, parseBody, parseWith, requestFacts } from "./parse.ts";
import { keptJson, streamBody } from "./streaming.ts";

export const vmRoutes = ({ core }: ApiParts): Hono =>
  new Hono()
    .get("/", (context) => keptJson(context, vmListBytes(shownVms(core.vms.list()))))
    .post("/", async (context) => {
      const request = await parseBody(context, createVmRequest);
      return answerBegun(context, core, () => beginCreateVm(core, request, callerFacts(context)));
    })
    .get("/:vm", (context) => context.json(toVmView(getVm(core.vms, parameter(context, "vm")))))
    .post("/:vm/start", (context) => answerBegun(context, core, () => beginStartVm(core, parameter(context, "vm"), requestFacts(context))))
    .post("/:vm/stop", async (context) => {
      const { timeoutMs } = await parseBody(context, stopVmRequest);
      return answerBegun(context, core, () => beginStopVm(core, parameter(context, "vm"), { timeoutMs, ...requestFacts(context) }));
    })
    .post("/:vm/kill", async (context) => {
      const { signal } = await parseBody(context, killVmRequest);
      await killVm(core, parameter(context, "vm"), signal);
      return context.body(null, 204);
    })
    .delete("/:vm", (context) => {
      const force = context.req.query("force") === "true";
      return answerBegun(context, core, () => beginRemoveVm(core, parameter(context, "vm"), { force, ...requestFacts(context) }));
    })
    .get("/:vm/ports", (context) => context.json(getVm(core.vms, parameter(context, "vm")).ports.map(toPortView)))
    .post("/:vm/ports", async (context) => {
      const request = await parseBody(context, portRequest);
      const port = await addPort(core, parameter(context, "vm"), { request, signal: context.req.raw.signal });
      return context.json(toPortView(port));
    })
    .delete("/:vm/ports", async (context) => {
      const which = parseWith(removePort, context.req.query());
      await removePorts(core, parameter(context, "vm"), { which, signal: context.req.raw.signal });
      return context.body(null, 204);
    })
    .get("/:vm/wait", async (context) => context.json(await waitForVm(core, parameter(context, "vm"), { signal: context.req.raw.signal })))
    .get("/:vm/console", async (context) => {
      const bytes = await readConsole(core, parameter(context, "vm"), { signal: context.req.raw.signal });
      return context.body(new Uint8Array(bytes), 200, { "content-type": "application/octet-stream" });
    })
    .get("/:vm/logs", (context) => streamLog(context, { core }));

const logQuery = z
  .object({
    follow: z.stringbool().default(false),
    stdout: z.coerce.number().int().min(0).default(0),
    stderr: z.coerce.number().int().min(0).default(0),
    tail: z.coerce.number().int().min(0).max(100_000).optional(),
  })
  .transform(({ tail, ...rest }) => ({ ...rest, tailLines: tail ?? null }));

/** Data frames, each behind its length as u32 little-endian. */
const streamLog = (context: Context, { core }: Pick<ApiParts, "core">): Response => {
  const record = getVm(core.vms, parameter(context, "vm"));
  const query = parseWith(logQuery, context.req.query());
  context.header("content-type", "application/vnd.kiln.stream");
  return streamBody(context, core, async (out, signal) => {
    for await (const chunk of readLog(core, record, { ...query, from: query, signal })) {
      const frame = encodeDataFrame(chunk);
      const length = new Uint8Array(LENGTH_PREFIX_BYTES);
      new DataView(length.buffer).setUint32(0, frame.length, true);
      await out.write(length);
      await out.write(frame);
    }
  });
};
