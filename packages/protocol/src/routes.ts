import { z } from "zod";
import { daemonStatus, dfReport, doctorReport, pruneReport, pruneRequest } from "./schemas/host.ts";
import {
  imageDetails,
  imageView,
  importImageAnswer,
  importImageRequest,
  kernelView,
  pullImageRequest,
  tagImageRequest,
} from "./schemas/image.ts";
import { operationView } from "./schemas/operation.ts";
import { createVmRequest, killVmRequest, stopVmRequest, vmView } from "./schemas/vm.ts";

/** One row of the API: what `api/openapi.json` is made from. Paths are as hono writes them. */
export interface Route {
  readonly method: "get" | "post" | "put" | "delete";
  readonly path: string;
  readonly summary: string;
  readonly request: z.ZodType | null;
  readonly status: number;
  /** A schema for JSON, a media type for anything else, null for no body. */
  readonly response: z.ZodType | string | null;
}

const route = (
  method: Route["method"],
  path: string,
  answer: Omit<Route, "method" | "path" | "request"> & { request?: z.ZodType },
): Route => ({
  request: null,
  ...answer,
  method,
  path,
});

const STREAM = "application/vnd.kiln.stream";

export const ROUTES: readonly Route[] = [
  route("get", "/v1/daemon", { summary: "The daemon's state, drivers and capacity", status: 200, response: daemonStatus }),
  route("post", "/v1/daemon/stop", { summary: "Ends the daemon; VMs run on", status: 202, response: z.object({}) }),
  route("get", "/v1/doctor", { summary: "What of this machine helps or hinders", status: 200, response: doctorReport }),
  route("get", "/v1/failpoints", { summary: "Names for KILN_FAILPOINT", status: 200, response: z.array(z.string()) }),
  route("get", "/v1/df", { summary: "What lies on the disk, and what of it no record owns", status: 200, response: dfReport }),
  route("post", "/v1/prune", {
    summary: "Removes what nobody uses, and says what it was",
    request: pruneRequest,
    status: 200,
    response: pruneReport,
  }),
  route("get", "/v1/kernels", { summary: "Kernel sets", status: 200, response: z.array(kernelView) }),
  route("get", "/v1/images", { summary: "Images", status: 200, response: z.array(imageView) }),
  route("post", "/v1/images/pull", {
    summary: "Pulls an image and builds its rootfs",
    request: pullImageRequest,
    status: 202,
    response: operationView,
  }),
  route("post", "/v1/images/import", {
    summary: "Names an image whose blobs were put, or says which are missing",
    request: importImageRequest,
    status: 200,
    response: importImageAnswer,
  }),
  route("post", "/v1/images/tag", { summary: "Gives an image a further name", request: tagImageRequest, status: 200, response: imageView }),
  route("get", "/v1/images/:reference{.+}", {
    summary: "One image by name, short name, or digest",
    status: 200,
    response: imageDetails,
  }),
  route("delete", "/v1/images/:reference{.+}", { summary: "Removes a name and what only it needs", status: 204, response: null }),
  route("get", "/v1/content/:digest", {
    summary: "A blob; with HEAD whether it is there",
    status: 200,
    response: "application/octet-stream",
  }),
  route("put", "/v1/content/:digest", { summary: "Stores a blob, verified", status: 201, response: z.object({}) }),
  route("get", "/v1/vms", { summary: "VMs, newest first", status: 200, response: z.array(vmView) }),
  route("post", "/v1/vms", {
    summary: "Creates a VM, and starts it if asked",
    request: createVmRequest,
    status: 202,
    response: operationView,
  }),
  route("get", "/v1/vms/:vm", { summary: "One VM by id, unique prefix or name", status: 200, response: vmView }),
  route("post", "/v1/vms/:vm/start", { summary: "Starts a VM", status: 202, response: operationView }),
  route("post", "/v1/vms/:vm/stop", {
    summary: "Stops a VM: its stop signal, then SIGKILL",
    request: stopVmRequest,
    status: 202,
    response: operationView,
  }),
  route("post", "/v1/vms/:vm/kill", {
    summary: "Sends a signal to the VM's command; SIGKILL ends the VM",
    request: killVmRequest,
    status: 204,
    response: null,
  }),
  route("delete", "/v1/vms/:vm", { summary: "Deletes a VM; `force=true` also one that runs", status: 202, response: operationView }),
  route("get", "/v1/vms/:vm/wait", { summary: "The VM once it has ended", status: 200, response: vmView }),
  route("get", "/v1/vms/:vm/console", {
    summary: "The newest bytes of the guest kernel's console",
    status: 200,
    response: "application/octet-stream",
  }),
  route("get", "/v1/vms/:vm/logs", {
    summary: "What the VM's command wrote: data frames, each behind its length",
    status: 200,
    response: STREAM,
  }),
  route("get", "/v1/operations", {
    summary: "Operations that run; `all=true`: the ended ones too",
    status: 200,
    response: z.array(operationView),
  }),
  route("get", "/v1/operations/:id", { summary: "One operation; `wait=true`: when it has ended", status: 200, response: operationView }),
  route("get", "/v1/operations/:id/watch", {
    summary: "The operation at each change, a line each",
    status: 200,
    response: "application/x-ndjson",
  }),
  route("post", "/v1/operations/:id/cancel", { summary: "Asks an operation to stop", status: 202, response: operationView }),
  route("get", "/v1/events", {
    summary:
      "What happened and happens, as server-sent events. `since=` or Last-Event-ID: a cursor, or a time; `until=now` or a time; `type=`, `subject=`",
    status: 200,
    response: "text/event-stream",
  }),
];

/** WebSockets have no place in OpenAPI; their messages are described in streams.ts. */
export const SOCKET_PATHS = ["/v1/vms/:vm/exec", "/v1/vms/:vm/attach"] as const;
