import { Hono } from "hono";
import { listKernels, reportDf, reportStatus } from "../operations/report.ts";
import type { ApiParts } from "./parts.ts";

export const hostRoutes = (parts: ApiParts): Hono => {
  const { core } = parts;
  return new Hono()
    .get("/daemon", async (context) => context.json(await reportStatus(core, parts.facts)))
    .post("/daemon/stop", (context) => {
      parts.stop();
      return context.json({}, 202);
    })
    .get("/doctor", async (context) => context.json(await parts.examine({ signal: context.req.raw.signal })))
    .get("/failpoints", (context) => context.json(parts.failpoints()))
    .get("/df", async (context) => context.json(await reportDf(core, parts.usage)))
    .get("/kernels", (context) => context.json(listKernels(core)));
};
