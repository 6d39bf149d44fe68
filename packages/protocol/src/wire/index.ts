/**
 * The wire between the daemon and the agent in a guest, spoken over one ordered byte stream: a virtio-serial port or a
 * vsock connection. All integers are little-endian.
 *
 * **Frame**: header { u8 sync 0x4B, u8 type, u16 flags, u32 stream, u32 length }, `length` <= 16384 bytes of payload, u32
 * trailer. At a frame boundary a zero byte is padding. The numbers are in `constants.ts`.
 *
 * **Opening, at any byte of an older conversation.** The host writes 16400 zero bytes, then HELLO { magic[8], nonce[16],
 * u32 version, u32 epoch }. A frame that was cut off is completed by the zeros, has a wrong trailer and is discarded
 * whole. After anything malformed the guest acts on nothing until the next whole HELLO. A HELLO empties what the guest
 * was about to send and detaches every stream; the guest answers HELLO_ACK { magic[8], nonce[16], u32 version, u32 epoch,
 * u32 sessions, u32 ready }. The host discards every byte before the HELLO_ACK with its nonce; what comes after it is
 * checked strictly, and the first violation ends the session.
 * A HELLO with the nonce of the session that is open is answered again and changes nothing. A HELLO of a higher epoch begins
 * that epoch: its sessions are counted from one and it needs a SETUP of its own. One of a lower epoch is refused with
 * STALE_EPOCH in `flags`.
 *
 * **Requests.** REQUEST (flags = op, stream = request id, not reused within a session) is answered by one REPLY (flags =
 * 0 or an error number). Payloads are TLVs { u16 tag, u16 zero, u32 length, bytes }. One that exceeds a frame is split:
 * every part but the last has `moreFlag`, and no other REQUEST (or REPLY) comes between the parts. Replies may come in any order.
 *
 * **Commands.** EXEC with an id that the guest knows starts nothing and succeeds. It is answered when execve has succeeded or
 * failed; a command that could not be started is not kept. Any other is kept, its exit included, until FORGET. Commands outlive sessions.
 * ATTACH { exec id, stream number new in this session } begins sending: the reply's EXEC_INFO has the offset at which each
 * output stream starts, the oldest byte kept. A second ATTACH of one command ends the first. Frames of a stream number that
 * is not attached any more are ignored by both sides.
 *
 * **Output** is numbered from the command's first byte. The guest keeps `ringBytes` of each stream until ACK and has no more
 * than that unacknowledged on the wire. When the ring is full, `block` leaves the rest in the pipe; `drop` forgets the oldest: the next
 * OUTPUT's offset jumps by exactly what was lost, and is sent only when all before it was acknowledged. Streams take turns, a frame each.
 * EXIT follows the last OUTPUT.
 *
 * **Stdin** is numbered the same way. The host has at most `stdinWindowBytes` beyond `consumed` on its way. What it sends again
 * from below `received` is skipped; a gap is a violation.
 *
 * **EXEC_INFO**: u32 state, u32 exit code, u32 signal, u32 flags, then u64: start and end offset of stdout, of stderr, received
 * and consumed offset of stdin, u64 guest process id, u64 zero; then the exec id.
 *
 * **Connections** into the guest. DIAL { stream number new in this session, protocol, port } connects to 127.0.0.1, else ::1, else
 * an address of a network interface, and is answered when it is connected or everything refused. The host may send DATA at once; the guest
 * keeps it until then. TCP: at most `connectionWindowBytes` of each direction are beyond the last CREDIT; an empty DATA without the
 * end is a violation. The end in both directions ends the connection, and each direction may end first. UDP: a datagram is one DATA, or several that have
 * `moreFlag` but for the last; there is neither end nor credit, and what finds no room is dropped. RESET ends either kind at once; what was on its way is
 * lost. The guest answers every RESET of the host with a RESET, also for a number that it does not know (any more): after that
 * answer nothing of the number comes. The guest's own RESET is not answered. The guest ignores frames of numbers that it does not
 * know; the host ignores a CREDIT or RESET of a connection that has ended, and takes DATA for a violation. Connections take turns, a frame each,
 * and end with their session.
 *
 * **Power off**: REPLY, then the guest waits briefly for BYE or the end of the channel before it ends itself.
 */
export * from "./constants.ts";
export * from "./frame.ts";
export * from "./tlv.ts";
export * from "./hello.ts";
export * from "./exec-info.ts";
export * from "./requests.ts";
export * from "./signals.ts";
