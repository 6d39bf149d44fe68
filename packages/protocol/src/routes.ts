import { z } from "zod";
import { rebuildImageRequest, verifyImageRequest } from "./schemas/check.ts";
import { customizeImageRequest, promoteImageRequest } from "./schemas/derive.ts";
import { bundleManifest, receivedContent, registerImageRequest } from "./schemas/bundle.ts";
import { explanation } from "./schemas/explanation.ts";
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
import { warmKernelRequest } from "./schemas/kernel.ts";
import { operationView } from "./schemas/operation.ts";
import { portRequest, portView } from "./schemas/port.ts";
import { createVmRequest, killVmRequest, stopVmRequest, vmView } from "./schemas/vm.ts";

/**
 * What makes a mutation that is asked for twice under one idempotency key happen once. `operation`: it begins one, and
 * the second asker gets that one. `answer`: the answer is kept. `pure`: doing it again changes nothing.
 */
export type Repeat = "operation" | "answer" | "pure";

/** One row of the API: what `api/openapi.json` is made from. Paths are as hono writes them. */
export interface Route {
  readonly method: "get" | "post" | "put" | "delete";
  readonly path: string;
  /** null for what changes nothing. */
  readonly repeat: Repeat | null;
  readonly summary: string;
  readonly request: z.ZodType | null;
  readonly status: number;
  /** A schema for JSON, a media type for anything else, null for no body. */
  readonly response: z.ZodType | string | null;
}

type Answer = Omit<Route, "method" | "path" | "request" | "repeat"> & { readonly request?: z.ZodType };

const get = (path: string, answer: Answer): Route => ({ request: null, ...answer, method: "get", path, repeat: null });

/** A mutation says how it is repeated. */
const change = (method: "post" | "put" | "delete", path: string, answer: Answer & { readonly repeat: Repeat }): Route => ({
  request: null,
  ...answer,
  method,
  path,
});

/** A mutation that begins an operation, and with `?wait=true` ends with it. */
const begin = (method: "post" | "delete", path: string, answer: Omit<Answer, "status" | "response">): Route =>
  change(method, path, { ...answer, status: 202, response: operationView, repeat: "operation" });

const STREAM = "application/vnd.kiln.stream";

export const ROUTES: readonly Route[] = [
  get("/v1/daemon", { summary: "The daemon's state, drivers and capacity", status: 200, response: daemonStatus }),
  change("post", "/v1/daemon/stop", { repeat: "answer", summary: "Ends the daemon; VMs run on", status: 202, response: z.object({}) }),
  get("/v1/doctor", { summary: "What of this machine helps or hinders", status: 200, response: doctorReport }),
  get("/v1/failpoints", { summary: "Names for KILN_FAILPOINT", status: 200, response: z.array(z.string()) }),
  get("/v1/df", { summary: "What lies on the disk, and what of it no record owns", status: 200, response: dfReport }),
  change("post", "/v1/prune", {
    repeat: "answer",
    summary: "Removes what nobody uses, and says what it was",
    request: pruneRequest,
    status: 200,
    response: pruneReport,
  }),
  begin("post", "/v1/scrub", { summary: "Reads all artifacts in full; what is damaged is built again, or goes" }),
  get("/v1/kernels", { summary: "Kernel sets", status: 200, response: z.array(kernelView) }),
  begin("post", "/v1/kernels/warm", {
    summary: "Makes the kernel set and the pre-boot snapshot of a shape, from which VMs of that shape start",
    request: warmKernelRequest,
  }),
  get("/v1/images", { summary: "Images", status: 200, response: z.array(imageView) }),
  begin("post", "/v1/images/pull", { summary: "Pulls an image and builds its rootfs", request: pullImageRequest }),
  begin("post", "/v1/images/promote", {
    summary: "Makes an image of what a VM that does not run has written",
    request: promoteImageRequest,
  }),
  begin("post", "/v1/images/register", { summary: "Makes an image of an ext4 file that was sent before", request: registerImageRequest }),
  begin("post", "/v1/images/customize", {
    summary: "Runs commands in a VM of an image and makes an image of what they leave, once for all who ask for the same",
    request: customizeImageRequest,
  }),
  begin("post", "/v1/images/verify", {
    summary: "Reads an image's blobs and rootfs in full, and compares the rootfs with what its layers give",
    request: verifyImageRequest,
  }),
  begin("post", "/v1/images/rebuild", {
    summary: "Builds an image's rootfs again, checks it, and puts it in the place of the old one",
    request: rebuildImageRequest,
  }),
  change("post", "/v1/images/import", {
    repeat: "answer",
    summary: "Names an image whose blobs were put, or says which are missing",
    request: importImageRequest,
    status: 200,
    response: importImageAnswer,
  }),
  change("post", "/v1/images/tag", {
    repeat: "answer",
    summary: "Gives an image a further name",
    request: tagImageRequest,
    status: 200,
    response: imageView,
  }),
  get("/v1/images/:reference{.+}", {
    summary: "One image by name, short name, or digest",
    status: 200,
    response: imageDetails,
  }),
  change("delete", "/v1/images/:reference{.+}", {
    repeat: "answer",
    summary: "Removes a name and what only it needs",
    status: 204,
    response: null,
  }),
  get("/v1/content/:digest", {
    summary: "A blob; with HEAD whether it is there",
    status: 200,
    response: "application/octet-stream",
  }),
  change("post", "/v1/content", {
    repeat: "pure",
    summary: "Stores a blob under the digest that it has",
    status: 201,
    response: receivedContent,
  }),
  get("/v1/bundles/:reference{.+}", {
    summary: "An image as a bundle: its rootfs and how it runs",
    status: 200,
    response: "application/zstd",
  }),
  change("post", "/v1/bundles", {
    repeat: "pure",
    summary: "Stores the rootfs of a bundle, and says how it runs: what registers it",
    status: 201,
    response: bundleManifest,
  }),
  change("put", "/v1/content/:digest", { repeat: "pure", summary: "Stores a blob, verified", status: 201, response: z.object({}) }),
  get("/v1/vms", { summary: "VMs, newest first", status: 200, response: z.array(vmView) }),
  begin("post", "/v1/vms", { summary: "Creates a VM, and starts it if asked", request: createVmRequest }),
  get("/v1/vms/:vm", { summary: "One VM by id, unique prefix or name", status: 200, response: vmView }),
  begin("post", "/v1/vms/:vm/start", { summary: "Starts a VM" }),
  begin("post", "/v1/vms/:vm/stop", { summary: "Stops a VM: its stop signal, then SIGKILL", request: stopVmRequest }),
  change("post", "/v1/vms/:vm/kill", {
    repeat: "answer",
    summary: "Sends a signal to the VM's command; SIGKILL ends the VM",
    request: killVmRequest,
    status: 204,
    response: null,
  }),
  begin("delete", "/v1/vms/:vm", { summary: "Deletes a VM; `force=true` also one that runs" }),
  get("/v1/vms/:vm/ports", { summary: "What the VM has published", status: 200, response: z.array(portView) }),
  change("post", "/v1/vms/:vm/ports", {
    repeat: "answer",
    summary: "Publishes a port: at once where the VM runs, else from its next start on; one that is published stays as it is",
    request: portRequest,
    status: 200,
    response: portView,
  }),
  change("delete", "/v1/vms/:vm/ports", {
    repeat: "answer",
    summary: "Takes back published ports and breaks off their connections: `guestPort=`, `protocol=`, `hostIp=`, `hostPort=`",
    status: 204,
    response: null,
  }),
  get("/v1/vms/:vm/wait", { summary: "The VM once it has ended", status: 200, response: vmView }),
  get("/v1/vms/:vm/console", {
    summary: "The newest bytes of the guest kernel's console",
    status: 200,
    response: "application/octet-stream",
  }),
  get("/v1/vms/:vm/logs", {
    summary: "What the VM's command wrote: data frames, each behind its length",
    status: 200,
    response: STREAM,
  }),
  get("/v1/operations", {
    summary: "Operations that run; `all=true`: the ended ones too",
    status: 200,
    response: z.array(operationView),
  }),
  get("/v1/operations/:id", { summary: "One operation; `wait=true`: when it has ended", status: 200, response: operationView }),
  get("/v1/operations/:id/watch", {
    summary: "The operation at each change, a line each",
    status: 200,
    response: "application/x-ndjson",
  }),
  change("post", "/v1/operations/:id/cancel", {
    repeat: "answer",
    summary: "Asks an operation to stop",
    status: 202,
    response: operationView,
  }),
  get("/v1/explain/:subject{.+}", {
    summary: "Why a VM, an operation, an image or a digest is as it is: what it waited for, what refused it, what holds it",
    status: 200,
    response: explanation,
  }),
  get("/v1/events", {
    summary:
      "What happened and happens, as server-sent events. `since=` or Last-Event-ID: a cursor, or a time; `until=now` or a time; `type=`, `subject=`",
    status: 200,
    response: "text/event-stream",
  }),
];

/** WebSockets have no place in OpenAPI; their messages are described in streams.ts. */
export const SOCKET_PATHS = ["/v1/vms/:vm/exec", "/v1/vms/:vm/attach"] as const;
