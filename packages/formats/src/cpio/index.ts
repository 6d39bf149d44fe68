/** Initramfs archives. Pure. */
export { CpioError, writeNewc, type CpioEntry } from "./newc.ts";
