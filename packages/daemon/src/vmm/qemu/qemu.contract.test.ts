import { driverContract } from "../driver.contract.ts";
import { BOOT_MS, openQemuStage } from "./stage.fixture.ts";

driverContract("qemu", openQemuStage, BOOT_MS);
