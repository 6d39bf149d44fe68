import type { ChaosSummary } from "./runs.ts";

export const renderResults = (summary: ChaosSummary): string => `${JSON.stringify(summary, null, 1)}\n`;
export const writeReport = async (_summary: ChaosSummary): Promise<void> => undefined;
