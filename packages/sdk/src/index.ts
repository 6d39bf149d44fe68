/** Kiln's SDK: browsers and Node. In Node, `@kiln/sdk/node` adds the Unix socket. */
export { type CallOptions } from "./api-client.ts";
export { CommandSession, type CommandExit } from "./command-session.ts";
export type { EventOptions } from "./event-stream.ts";
export { FetchTransport, type FetchTransportOptions } from "./fetch-transport.ts";
export { Kiln } from "./kiln.ts";
export type { OutputChunk } from "./output-buffer.ts";
export type { ImportedImage, LayoutBlob, LayoutImport, PullOptions, SentFile } from "./resources/images.ts";
export { operationError, type FollowOptions } from "./resources/operations.ts";
export type { LogOptions } from "./log-stream.ts";
export type { ExecOptions } from "./resources/vms.ts";
export { Sandbox, type SandboxExecOptions, type SandboxOptions, type SandboxResult } from "./sandbox.ts";
export type { Method, Transport, TransportRequest, TransportResponse, TransportSocket } from "./transport.ts";
export { KilnError, type ErrorCode, type Problem } from "@kiln/protocol/errors";
