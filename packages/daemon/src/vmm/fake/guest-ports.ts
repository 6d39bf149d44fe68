import { DATA_END, FRAME_TYPES, PROTOCOLS, readOffset, TAGS, WIRE, WIRE_ERRORS, type Frame, type TlvFields } from "@kiln/protocol/wire";

/** RFC 862: what comes goes back. The one service of a fake guest, over TCP and UDP. */
export const ECHO_PORT = 7;

interface Echo {
  readonly isTcp: boolean;
  /** Bytes that came and have not gone back yet. */
  waiting: Uint8Array;
  received: number;
  sent: number;
  credit: number;
  hasEnded: boolean;
}

type Send = (frame: Frame) => void;
const NOTHING = new Uint8Array(0);

/** The connections of one session into a fake guest. */
export class FakePorts {
  readonly #send: Send;
  readonly #open = new Map<number, Echo>();

  constructor(send: Send) {
    this.#send = send;
  }

  clear(): void {
    this.#open.clear();
  }

  /** What the reply to DIAL says: a WIRE_ERRORS number. */
  dial(fields: TlvFields): number {
    if (fields.u32(TAGS.PORT) !== ECHO_PORT) return WIRE_ERRORS.FAILED;
    const isTcp = fields.u32(TAGS.PROTOCOL) === PROTOCOLS.TCP;
    this.#open.set(fields.u32(TAGS.STREAM), { isTcp, waiting: NOTHING, received: 0, sent: 0, credit: 0, hasEnded: false });
    return WIRE_ERRORS.OK;
  }

  /** A DATA, CREDIT or RESET of the host. */
  onFrame(frame: Frame): void {
    const { type, stream, flags, payload } = frame;
    const echo = this.#open.get(stream);
    if (type === FRAME_TYPES.RESET) {
      this.#open.delete(stream);
      this.#send({ type, flags: 0, stream, payload: NOTHING });
    } else if (echo === undefined) {
      return;
    } else if (!echo.isTcp) {
      this.#send(frame);
    } else if (type === FRAME_TYPES.CREDIT) {
      echo.credit = readOffset(new DataView(payload.buffer, payload.byteOffset), 0);
      this.#pump(stream, echo);
    } else {
      echo.waiting = Buffer.concat([echo.waiting, payload]);
      echo.received += payload.length;
      echo.hasEnded = flags === DATA_END;
      this.#pump(stream, echo);
    }
  }

  /** The host gets credit for what has gone back. */
  #pump(stream: number, echo: Echo): void {
    const room = WIRE.connectionWindowBytes - (echo.sent - echo.credit);
    const going = echo.waiting.subarray(0, room);
    echo.waiting = echo.waiting.slice(going.length);
    echo.sent += going.length;
    for (let at = 0; at < going.length; at += WIRE.payloadBytes) {
      this.#send({ type: FRAME_TYPES.DATA, flags: 0, stream, payload: going.subarray(at, at + WIRE.payloadBytes) });
    }
    if (going.length > 0)
      this.#send({ type: FRAME_TYPES.CREDIT, flags: 0, stream, payload: creditOf(echo.received - echo.waiting.length) });
    if (!echo.hasEnded || echo.waiting.length > 0) return;
    this.#open.delete(stream);
    this.#send({ type: FRAME_TYPES.DATA, flags: DATA_END, stream, payload: NOTHING });
  }
}

const creditOf = (taken: number): Uint8Array => {
  const payload = new Uint8Array(8);
  new DataView(payload.buffer).setBigUint64(0, BigInt(taken), true);
  return payload;
};
