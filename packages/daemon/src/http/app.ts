import { asKilnError, KilnError, LIMITS, toProblem } from "@kiln/protocol";
import { Hono } from "hono";
import { bundleRoutes } from "./bundle-routes.ts";
import { contentRoutes } from "./content-routes.ts";
import { eventRoutes } from "./event-routes.ts";
import { hostRoutes } from "./host-routes.ts";
import { idempotency } from "./idempotency.ts";
import { imageRoutes } from "./image-routes.ts";
import { operationRoutes } from "./operation-routes.ts";
import type { ApiParts } from "./parts.ts";
import { vmRoutes } from "./vm-routes.ts";

/** The API as a function from request to response; tests need no port. */
export const createApp = (parts: ApiParts): Hono => {
  const app = new Hono();
  app.use(async (context, next) => {
    const length = Number(context.req.header("content-length") ?? 0);
    const isContent = /^\/v1\/(?:content|bundles)(?:\/|$)/.test(context.req.path);
    if (!isContent && length > LIMITS.requestBytes) {
      throw new KilnError("REQUEST_TOO_LARGE", `the request has ${length} bytes; ${LIMITS.requestBytes} are allowed`);
    }
    await next();
  });
  app.use(idempotency(parts));
  app.route("/v1", hostRoutes(parts));
  app.route("/v1/images", imageRoutes(parts));
  app.route("/v1/content", contentRoutes(parts));
  app.route("/v1/bundles", bundleRoutes(parts));
  app.route("/v1/vms", vmRoutes(parts));
  app.route("/v1/operations", operationRoutes(parts.core));
  app.route("/v1/events", eventRoutes(parts.core));
  app.notFound((context) =>
    problemResponse(new KilnError("NOT_FOUND", `there is no ${context.req.method} ${context.req.path} in this API`)),
  );
  app.onError((thrown) => {
    const error = asKilnError(thrown);
    if (error.code === "INTERNAL") parts.core.journal.error({ error: error.message, stack: describeStack(thrown) }, "a request failed");
    return problemResponse(error);
  });
  return app;
};

export const problemResponse = (error: KilnError): Response => {
  const headers = new Headers({ "content-type": "application/problem+json" });
  if (error.status === 429 || error.status === 503) headers.set("retry-after", "1");
  return new Response(JSON.stringify(toProblem(error)), { status: error.status, headers });
};

const describeStack = (thrown: unknown): string => (thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown));
