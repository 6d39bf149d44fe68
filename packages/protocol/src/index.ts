/** What every side of Kiln agrees on: schemas, ids, the error table. No I/O. */
export * from "./errors.ts";
export * from "./ids.ts";
export * from "./limits.ts";
export * from "./schemas/bundle.ts";
export * from "./schemas/check.ts";
export * from "./schemas/derive.ts";
export * from "./schemas/event.ts";
export * from "./schemas/explanation.ts";
export * from "./schemas/host.ts";
export * from "./schemas/image.ts";
export * from "./schemas/kernel.ts";
export * from "./schemas/operation.ts";
export * from "./schemas/port.ts";
export * from "./schemas/stream.ts";
export * from "./schemas/vm.ts";
export * from "./streams.ts";
