import type { CommandSpec } from "../command-spec.ts";

export interface CommandEntry {
  /** The words that call it. */
  readonly path: readonly [string] | readonly [string, string];
  readonly aliases?: readonly string[];
  /** Called by its group's word alone, before anything that is no command of it. */
  readonly isDefault?: boolean;
  readonly summary: string;
  readonly load: () => Promise<{ readonly default: CommandSpec }>;
}

/** Commands that only hold others. */
export const GROUPS: Readonly<Record<string, string>> = {
  image: "Images: the same commands by docker's other names",
  port: "Ports of VMs at addresses of this host; `kiln port NAME` lists them",
  kernel: "Kernels that VMs boot",
  op: "Operations: what the daemon does and did",
  daemon: "The daemon of this home",
};

/** Every command, in the order of the help. */
export const COMMANDS: readonly CommandEntry[] = [
  { path: ["run"], summary: "Create a VM from an image and run a command in it", load: () => import("./vm-run.ts") },
  { path: ["create"], summary: "Create a VM without starting it", load: () => import("./vm-create.ts") },
  { path: ["start"], summary: "Start VMs", load: () => import("./vm-start.ts") },
  { path: ["stop"], summary: "Stop VMs", load: () => import("./vm-stop.ts") },
  { path: ["restart"], summary: "Stop VMs and start them again", load: () => import("./vm-restart.ts") },
  { path: ["kill"], summary: "Send a signal to the command of VMs", load: () => import("./vm-kill.ts") },
  { path: ["rm"], summary: "Remove VMs", load: () => import("./vm-remove.ts") },
  { path: ["ps"], summary: "List VMs", load: () => import("./vm-list.ts") },
  { path: ["exec"], summary: "Run a command in a running VM", load: () => import("./vm-exec.ts") },
  { path: ["attach"], summary: "Attach to the command of a running VM", load: () => import("./vm-attach.ts") },
  { path: ["logs"], summary: "Show what the command of a VM wrote", load: () => import("./vm-logs.ts") },
  { path: ["inspect"], summary: "Show everything about VMs, as JSON", load: () => import("./vm-inspect.ts") },
  { path: ["wait"], summary: "Wait until VMs end, then print their exit codes", load: () => import("./vm-wait.ts") },
  { path: ["port", "add"], summary: "Publish ports of a VM, while it runs or before", load: () => import("./port-add.ts") },
  { path: ["port", "rm"], aliases: ["remove"], summary: "Take back published ports", load: () => import("./port-remove.ts") },
  {
    path: ["port", "ls"],
    aliases: ["list"],
    isDefault: true,
    summary: "List the published ports of a VM",
    load: () => import("./port-list.ts"),
  },
  { path: ["pull"], summary: "Fetch images", load: () => import("./image-pull.ts") },
  { path: ["images"], summary: "List images", load: () => import("./image-list.ts") },
  { path: ["rmi"], summary: "Remove images", load: () => import("./image-remove.ts") },
  { path: ["tag"], summary: "Give an image a further name", load: () => import("./image-tag.ts") },
  { path: ["commit"], summary: "Make an image of what a stopped VM has written", load: () => import("./image-commit.ts") },
  { path: ["load"], summary: "Load images from an archive", load: () => import("./image-load.ts") },
  { path: ["save"], summary: "Save images to an archive", load: () => import("./image-save.ts") },
  { path: ["image", "ls"], aliases: ["list"], summary: "List images", load: () => import("./image-list.ts") },
  { path: ["image", "inspect"], summary: "Show everything about images, as JSON", load: () => import("./image-inspect.ts") },
  { path: ["image", "pull"], summary: "Fetch images", load: () => import("./image-pull.ts") },
  { path: ["image", "rm"], aliases: ["remove"], summary: "Remove images", load: () => import("./image-remove.ts") },
  { path: ["image", "tag"], summary: "Give an image a further name", load: () => import("./image-tag.ts") },
  {
    path: ["image", "customize"],
    summary: "Make an image of what commands leave in a VM of another",
    load: () => import("./image-customize.ts"),
  },
  { path: ["image", "promote"], summary: "Make an image of what a stopped VM has written", load: () => import("./image-promote.ts") },
  { path: ["image", "register"], summary: "Make an image of an ext4 file system", load: () => import("./image-register.ts") },
  { path: ["image", "export"], summary: "Write an image's rootfs and config to a bundle", load: () => import("./image-export.ts") },
  { path: ["image", "import"], summary: "Make an image of a bundle", load: () => import("./image-import.ts") },
  { path: ["image", "load"], summary: "Load images from an archive", load: () => import("./image-load.ts") },
  { path: ["image", "save"], summary: "Save images to an archive", load: () => import("./image-save.ts") },
  { path: ["image", "verify"], summary: "Check that images are what was pulled and built", load: () => import("./image-verify.ts") },
  { path: ["image", "rebuild"], summary: "Build the rootfs of images again", load: () => import("./image-rebuild.ts") },
  { path: ["image", "prune"], summary: "Remove what no image needs", load: () => import("./image-prune.ts") },
  { path: ["kernel", "ls"], aliases: ["list"], summary: "List kernels", load: () => import("./kernel-list.ts") },
  {
    path: ["kernel", "warm"],
    summary: "Make ahead what VMs of a shape start from",
    load: () => import("./kernel-warm.ts"),
  },
  { path: ["op", "ls"], aliases: ["list"], summary: "List operations", load: () => import("./operation-list.ts") },
  { path: ["op", "inspect"], summary: "Show everything about operations, as JSON", load: () => import("./operation-inspect.ts") },
  { path: ["op", "watch"], summary: "Follow an operation to its end", load: () => import("./operation-watch.ts") },
  { path: ["op", "cancel"], summary: "Cancel operations", load: () => import("./operation-cancel.ts") },
  {
    path: ["explain"],
    summary: "Show why something is as it is: what it waited for, what holds it",
    load: () => import("./host-explain.ts"),
  },
  { path: ["events"], summary: "Show what happens", load: () => import("./host-events.ts") },
  { path: ["doctor"], summary: "Check what this machine can do", load: () => import("./host-doctor.ts") },
  { path: ["df"], summary: "Show what takes room on the disk", load: () => import("./host-df.ts") },
  { path: ["scrub"], summary: "Read everything that is kept, and put right what is damaged", load: () => import("./host-scrub.ts") },
  { path: ["prune"], summary: "Remove what nobody uses", load: () => import("./host-prune.ts") },
  { path: ["daemon", "start"], summary: "Start the daemon", load: () => import("./daemon-start.ts") },
  { path: ["daemon", "stop"], summary: "Stop the daemon; VMs run on", load: () => import("./daemon-stop.ts") },
  {
    path: ["daemon", "restart"],
    summary: "Put a new daemon in the place of this one; VMs run on",
    load: () => import("./daemon-restart.ts"),
  },
  { path: ["daemon", "status"], summary: "Show whether the daemon runs", load: () => import("./daemon-status.ts") },
  { path: ["version"], summary: "Show the version", load: () => import("./cli-version.ts") },
  { path: ["completion"], summary: "Print a completion script for a shell", load: () => import("./cli-completion.ts") },
  { path: ["help"], summary: "Show the help of a command", load: () => import("./cli-help.ts") },
];
