import { randomUUID } from "node:crypto";
import { createServer, type Server } from "node:http";
import { chmod, mkdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { createAdaptorServer } from "@hono/node-server";
import { KeyedLock, Semaphore, systemClock, systemRandom } from "@kiln/std";
import { listFailpoints, longSocketPath, publishFile } from "@kiln/std/node";
import { pino } from "pino";
import type { Config } from "./config/config.ts";
import { createApp } from "./http/app.ts";
import { createUpgradeHandler } from "./http/command-socket.ts";
import { adoptVms, sweepVmDirectories } from "./operations/adopt-vms.ts";
import type { Core } from "./operations/core.ts";

// the composition root: the only place that names concrete adapters
