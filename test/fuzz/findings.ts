/** What fuzzing has found and what was done about it; each input stays in the corpus of its target. */
export interface Fixed {
  readonly target: string;
  /** The file in the corpus. */
  readonly input: string;
  readonly what: string;
}

export const FIXED: readonly Fixed[] = [
  {
    target: "reference",
    input: "found-oci-latest",
    what: "the short name of `docker.io/library/oci:latest` was `oci:latest`, which is a layout in a directory",
  },
  {
    target: "reference",
    input: "found-docker-io-twice",
    what: "the short name of `docker.io/docker.io/a/b`, whose repository begins like a domain, was `docker.io/a/b`, another image",
  },
  {
    target: "ext4",
    input: "found-inline-size.gz",
    what: "a file in its inode that is longer than what is there of it was refused; the kernel and e2fsck take the rest for zeros",
  },
];
