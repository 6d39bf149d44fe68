export type * as ESTree from "oxc-parser";
