/** Initramfs archives. Pure. */
export { CpioError, writeCpio, type CpioEntry } from "./newc.ts";
