/** All smoke scenarios: the isolated ones by what takes longest first, so that none is left alone at the end. */
import type { Scenario } from "./scenario.ts";
import { EXECS } from "./scenarios/execs.ts";
import { LIVES } from "./scenarios/lives.ts";
import { RUNS } from "./scenarios/runs.ts";
import { STREAMS } from "./scenarios/streams.ts";

export const SCENARIOS: readonly Scenario[] = [...RUNS, ...EXECS, ...LIVES, ...STREAMS];
