#include "frame.h"
#include "bytes.h"
#include <string.h>

static const char magic[] = WIRE_MAGIC;
enum { MAGIC_BYTES = sizeof magic - 1, HELLO_FRAME = WIRE_HEADER_BYTES + WIRE_HELLO_BYTES + WIRE_TRAILER_BYTES };

void frame_reader_reset(struct frame_reader *r) {
  r->start = r->len = 0;
  r->lost = true;
}

uint8_t *frame_reader_room(struct frame_reader *r, size_t *room) {
  if (r->start > 0) {
    memmove(r->data, r->data + r->start, r->len);
    r->start = 0;
  }
  *room = READER_BYTES - r->len;
  return r->data + r->len;
}

static void skip(struct frame_reader *r, size_t n) {
  r->start += n;
  r->len -= n;
}

static void parse(uint8_t *p, struct frame *f) {
  f->type = p[1];
  f->flags = get16(p + 2);
  f->stream = get32(p + 4);
  f->length = get32(p + 8);
  f->payload = p + WIRE_HEADER_BYTES;
}

static bool hello_is_sound(const struct frame *f) {
  return f->flags == 0 && f->stream == 0 && f->length == WIRE_HELLO_BYTES && memcmp(f->payload, magic, MAGIC_BYTES) == 0;
}

static bool known(uint8_t type) { return type >= FRAME_HELLO && type <= FRAME_RESET; }

/* Scans for a whole HELLO; leaves the reader at the first place where one may still begin. */
static bool find_hello(struct frame_reader *r, struct frame *f) {
  while (r->len > 0) {
    uint8_t *p = memchr(r->data + r->start, (int)WIRE_SYNC, r->len);
    if (!p) {
      skip(r, r->len);
      return false;
    }
    skip(r, (size_t)(p - (r->data + r->start)));
    if (r->len < HELLO_FRAME) return false;
    parse(p, f);
    if (f->type == FRAME_HELLO && hello_is_sound(f) && get32(f->payload + f->length) == WIRE_TRAILER) {
      skip(r, HELLO_FRAME);
      r->lost = false;
      return true;
    }
    skip(r, 1);
  }
  return false;
}

bool frame_reader_next(struct frame_reader *r, struct frame *f) {
  if (r->lost) return find_hello(r, f);
  while (r->len > 0 && r->data[r->start] == 0) skip(r, 1);
  if (r->len == 0) return false;
  uint8_t *p = r->data + r->start;
  if (p[0] != WIRE_SYNC || (r->len >= 2 && !known(p[1]))) {
    r->lost = true;
    return find_hello(r, f);
  }
  if (r->len < WIRE_HEADER_BYTES) return false;
  parse(p, f);
  if (f->length > WIRE_PAYLOAD_BYTES) {
    r->lost = true;
    return find_hello(r, f);
  }
  size_t whole = WIRE_HEADER_BYTES + f->length + WIRE_TRAILER_BYTES;
  if (r->len < whole) return false;
  bool sound = get32(f->payload + f->length) == WIRE_TRAILER && (f->type != FRAME_HELLO || hello_is_sound(f));
  skip(r, whole); /* a bad frame goes as a whole: its payload is never searched for a HELLO */
  if (sound) return true;
  r->lost = true;
  return find_hello(r, f);
}

bool frame_put(struct buffer *out, const struct frame *f, const uint8_t *tail, size_t tail_len) {
  size_t length = f->length + tail_len;
  uint8_t *p = buffer_reserve(out, WIRE_HEADER_BYTES + length + WIRE_TRAILER_BYTES);
  if (!p) return false;
  p[0] = WIRE_SYNC;
  p[1] = f->type;
  put16(p + 2, f->flags);
  put32(p + 4, f->stream);
  put32(p + 8, (uint32_t)length);
  if (f->length) memcpy(p + WIRE_HEADER_BYTES, f->payload, f->length);
  if (tail_len) memcpy(p + WIRE_HEADER_BYTES + f->length, tail, tail_len);
  put32(p + WIRE_HEADER_BYTES + length, WIRE_TRAILER);
  out->len += WIRE_HEADER_BYTES + length + WIRE_TRAILER_BYTES;
  return true;
}

bool frame_put_split(struct buffer *out, struct frame f) {
  uint32_t left = f.length;
  uint16_t flags = f.flags;
  do {
    f.length = left < WIRE_PAYLOAD_BYTES ? left : WIRE_PAYLOAD_BYTES;
    left -= f.length;
    f.flags = left ? (uint16_t)(flags | WIRE_MORE_FLAG) : flags;
    if (!frame_put(out, &f, NULL, 0)) return false;
    if (f.payload) f.payload += f.length;
  } while (left > 0);
  return true;
}
