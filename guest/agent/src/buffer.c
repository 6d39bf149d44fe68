#include "buffer.h"
#include <stdlib.h>
#include <string.h>

enum { KEPT_BYTES = 64 * 1024 };

uint8_t *buffer_reserve(struct buffer *b, size_t n) {
  if (b->start + b->len + n <= b->cap) return b->data + b->start + b->len;
  if (b->start > 0) {
    memmove(b->data, b->data + b->start, b->len);
    b->start = 0;
  }
  if (b->len + n > b->cap) {
    size_t cap = b->cap ? b->cap : 1024;
    while (cap < b->len + n) cap *= 2;
    uint8_t *grown = realloc(b->data, cap);
    if (!grown) return NULL;
    b->data = grown;
    b->cap = cap;
  }
  return b->data + b->len;
}

bool buffer_append(struct buffer *b, const void *bytes, size_t n) {
  if (n == 0) return true;
  uint8_t *room = buffer_reserve(b, n);
  if (!room) return false;
  memcpy(room, bytes, n);
  b->len += n;
  return true;
}

void buffer_consume(struct buffer *b, size_t n) {
  b->start += n;
  b->len -= n;
  if (b->len == 0) b->start = 0;
}

void buffer_clear(struct buffer *b) {
  if (b->cap > KEPT_BYTES) buffer_free(b);
  b->start = b->len = 0;
}

void buffer_free(struct buffer *b) {
  free(b->data);
  *b = (struct buffer){0};
}
