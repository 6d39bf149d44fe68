import { homePaths } from "../../../packages/daemon/src/store/home.ts";

/** The home of the simulated host. */
export const HOME = homePaths("/home/kiln");
