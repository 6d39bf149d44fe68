/** Branded ids: a string of one kind does not compile where another is wanted. */

declare const brand: unique symbol;
type Branded<Name extends string> = string & { readonly [brand]: Name };

/** 12 lower-case hex digits, as docker's short ids. */
export type VmId = Branded<"VmId">;
/** `op_` and 16 lower-case hex digits. */
export type OperationId = Branded<"OperationId">;
/** `sha256:` and 64 lower-case hex digits (OCI image-spec, descriptor.md). */
export type Digest = Branded<"Digest">;

const DIGEST = /^sha256:[0-9a-f]{64}$/;

export const isDigest = (text: string): text is Digest => DIGEST.test(text);
export const isVmId = (text: string): text is VmId => /^[0-9a-f]{12}$/.test(text);
export const isOperationId = (text: string): text is OperationId => /^op_[0-9a-f]{16}$/.test(text);

/** The 64 hex digits of a digest: its file name in a content store. */
export const digestHex = (digest: Digest): string => digest.slice("sha256:".length);
