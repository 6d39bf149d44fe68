import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { ROUTES, type Route } from "@kiln/protocol/routes";
import { z } from "zod";

/** `scripts/node scripts/generate-openapi.ts` writes api/openapi.json; a test holds the committed file against it. */
export const OPENAPI_PATH = fileURLToPath(new URL("../api/openapi.json", import.meta.url));

const problem = {
  description: "An RFC 9457 problem document",
  content: { "application/problem+json": { schema: { type: "object", required: ["code", "detail", "hint", "status"] } } },
};

type Named = Record<string, unknown>;

/** Schemas with a name of their own, which many answers have in common, go to `named`. */
const content = (schema: z.ZodType, io: "input" | "output", named: Named) => {
  const { definitions, ...own } = z.toJSONSchema(schema, { io, target: "openapi-3.0" });
  Object.assign(named, definitions);
  return { "application/json": { schema: own } };
};

const IDEMPOTENCY_KEY = {
  name: "Idempotency-Key",
  in: "header",
  required: false,
  description:
    "1 to 128 visible ASCII characters. The same key and request again is done once; with another request it is 409. Kept for a day.",
  schema: { type: "string" },
};

const WAIT = {
  name: "wait",
  in: "query",
  required: false,
  description: "true: answers when the operation has ended, with 200, or with its error as a problem",
  schema: { type: "boolean", default: false },
};

const parametersOf = ({ path, repeat }: Route): object[] => [
  ...[...path.matchAll(/:(\w+)/g)].map(([, name]) => ({ name, in: "path", required: true, schema: { type: "string" } })),
  ...(repeat === "operation" ? [WAIT] : []),
  ...(repeat === null ? [] : [IDEMPOTENCY_KEY]),
];

const describeRoute = (route: Route, named: Named): object => {
  const body =
    route.response === null
      ? {}
      : { content: typeof route.response === "string" ? { [route.response]: {} } : content(route.response, "output", named) };
  return {
    summary: route.summary,
    parameters: parametersOf(route),
    ...(route.request === null ? {} : { requestBody: { required: true, content: content(route.request, "input", named) } }),
    responses: {
      ...(route.repeat === "operation" ? { 200: { description: "The operation has succeeded", ...body } } : {}),
      [route.status]: { description: route.summary, ...body },
      default: problem,
    },
  };
};

export const generateOpenApi = (): string => {
  const paths: Record<string, Record<string, object>> = {};
  const schemas: Named = {};
  for (const route of ROUTES) {
    const path = route.path.replace(/:(\w+)(\{[^}]*\})?/g, "{$1}");
    paths[path] = { ...paths[path], [route.method]: describeRoute(route, schemas) };
  }
  const info = { title: "Kiln", version: "v1", description: "Container images in, microVMs out. Served on a Unix socket." };
  const text = JSON.stringify({ openapi: "3.0.3", info, paths, components: { schemas } }, null, 2);
  return `${text.replaceAll('"#/definitions/', '"#/components/schemas/')}\n`;
};

if (import.meta.main) writeFileSync(OPENAPI_PATH, generateOpenApi());
