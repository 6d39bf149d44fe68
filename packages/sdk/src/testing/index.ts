/** For tests of clients of Kiln: a scripted daemon and the views it answers with. */
export { logBody, sendMessage, sendOutput, StubDaemon, type StubAnswer, type StubRequest } from "./stub-daemon.ts";
export { aVm, anImage, anOperation, listOf } from "./views.ts";
