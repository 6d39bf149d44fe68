/** Transports whose images this process opens: the daemon opens no path for a caller. */
export type LocalTransport = "oci" | "oci-archive" | "docker-archive";

/** Which of them a reference names; null for what the daemon fetches by itself. */
export const localTransport = (reference: string): LocalTransport | null => {
  const [, transport] = /^(oci|oci-archive|docker-archive):/.exec(reference) ?? [];
  return (transport as LocalTransport | undefined) ?? null;
};

/** How a command's help speaks of an image. */
export const IMAGE_HELP = "NAME[:TAG] | oci:DIR[:TAG] | oci-archive:FILE[:TAG] | docker-archive:FILE[:NAME] | deb:PACKAGE…";

export const PLATFORM_HELP = "OS/ARCHITECTURE[/VARIANT] of the image (default: what VMs on this host are)";
export const PLAIN_HTTP_HELP = "speak HTTP without TLS to the registry (on the loopback this needs no saying)";
export const NO_WAIT_HELP = "print the operation and leave it to the daemon; `kiln op watch` follows it";
