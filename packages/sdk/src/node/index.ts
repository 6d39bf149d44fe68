/** The SDK's doors that need Node: Unix sockets and Kiln's home. */
export { connect, type ConnectOptions } from "./connect.ts";
export { resolveHome, socketPathOf, type HomeSources } from "./home.ts";
export { UnixTransport, type UnixTransportOptions } from "./unix-transport.ts";
export { findRegistryCredentials, type CredentialSources, type FindCredentials } from "./registry-credentials.ts";
