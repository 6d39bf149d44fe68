/** All smoke scenarios: the isolated ones by what takes longest first, so that none is left alone at the end. */
import type { Scenario } from "./scenario.ts";
import { DAEMONS } from "./scenarios/daemons.ts";
import { EXECS } from "./scenarios/execs.ts";
import { HOMES } from "./scenarios/homes.ts";
import { IMAGES } from "./scenarios/images.ts";
import { LISTINGS } from "./scenarios/listings.ts";
import { LIVES } from "./scenarios/lives.ts";
import { NETWORKS } from "./scenarios/networks.ts";
import { OPERATIONS } from "./scenarios/operations.ts";
import { RUNS } from "./scenarios/runs.ts";
import { STREAMS } from "./scenarios/streams.ts";

export const SCENARIOS: readonly Scenario[] = [
  ...RUNS,
  ...EXECS,
  ...LIVES,
  ...STREAMS,
  ...IMAGES,
  ...NETWORKS,
  ...OPERATIONS,
  ...LISTINGS,
  ...DAEMONS,
  ...HOMES,
];
