import { once } from "node:events";
import { type AddressInfo, createConnection, createServer, type Socket } from "node:net";

/** Something on the loopback that listens and is shown the first bytes of each connection. */
export const listen = async (take: (socket: Socket, first: Buffer) => unknown): Promise<AsyncDisposable & { readonly host: string }> => {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.once("data", (first: Buffer) => take(socket, first));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      server.close();
      for (const socket of sockets) socket.destroy();
      await once(server, "close");
    },
  };
};

/** Puts a connection through to a port of the loopback, with the bytes that were read from it already. */
export const forward = (socket: Socket, first: Buffer, port: number): Socket => {
  const onward = createConnection({ port, host: "127.0.0.1" });
  onward.on("error", () => socket.destroy());
  onward.write(first);
  socket.pipe(onward).pipe(socket);
  return onward;
};
