import { Hono } from "hono";
import { pruneRequest, warmKernelRequest } from "@kiln/protocol";
import { explain } from "../operations/explain/explain.ts";
import { prune } from "../operations/prune.ts";
import { listKernels, reportStatus } from "../operations/report.ts";
import { reportDf } from "../operations/report-df.ts";
import { beginScrub } from "../operations/scrub.ts";
import { beginWarmKernel } from "../operations/warm-kernel.ts";
import { answerBegun } from "./begun.ts";
import type { ApiParts } from "./parts.ts";
import { parameter, parseBody, requestFacts } from "./parse.ts";

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
    .post("/prune", async (context) => context.json(await prune(core, parts.usage, await parseBody(context, pruneRequest))))
    .post("/scrub", (context) => answerBegun(context, core, () => beginScrub(core, requestFacts(context))))
    .get("/explain/:subject{.+}", (context) => context.json(explain(core, parameter(context, "subject"))))
    .get("/kernels", (context) => context.json(listKernels(core)))
    .post("/kernels/warm", async (context) => {
      const request = await parseBody(context, warmKernelRequest);
      return answerBegun(context, core, () => beginWarmKernel(core, request, requestFacts(context)));
    });
};
