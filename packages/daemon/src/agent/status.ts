import { signalName, type ExecInfo } from "@kiln/protocol/wire";
import type { ExecStatus } from "../vms/agent.port.ts";

export const statusOf = (info: ExecInfo): ExecStatus => {
  const running = info.state !== "EXITED";
  return {
    id: info.id,
    running,
    exitCode: running || info.signal !== 0 ? null : info.exitCode,
    signal: running || info.signal === 0 ? null : signalName(info.signal),
    oomKilled: info.oomKilled,
  };
};
