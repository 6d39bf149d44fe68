/* Frames, in and out. The format is described in packages/protocol/src/wire/index.ts. */
#ifndef KILN_FRAME_H
#define KILN_FRAME_H
#include "buffer.h"
#include "wire_constants.h"

enum { FRAME_MAX = WIRE_HEADER_BYTES + WIRE_PAYLOAD_BYTES + WIRE_TRAILER_BYTES, READER_BYTES = 4 * FRAME_MAX };

struct frame {
  uint8_t type;
  uint16_t flags;
  uint32_t stream;
  uint8_t *payload; /* valid until the next call on the reader */
  uint32_t length;
};

/* Takes any bytes. While `lost` it finds nothing but a whole HELLO, byte by byte; it begins lost. */
struct frame_reader {
  uint8_t data[READER_BYTES];
  size_t start, len;
  bool lost;
};

void frame_reader_reset(struct frame_reader *r);
/* Where to read the next bytes to; always room for at least one. Add what was read to r->len. */
uint8_t *frame_reader_room(struct frame_reader *r, size_t *room);
/* Whether there was a whole frame. A HELLO ends `lost`; its size and magic were checked. Call until false. */
bool frame_reader_next(struct frame_reader *r, struct frame *frame);

/* Appends one frame whose payload is `head` and then `tail`; false without memory. */
bool frame_put(struct buffer *out, const struct frame *frame, const uint8_t *tail, size_t tail_len);
/* Appends a payload of any size, split. */
bool frame_put_split(struct buffer *out, struct frame frame);
#endif
