/* A byte queue that grows: appended at the end, consumed at the front. */
#ifndef KILN_BUFFER_H
#define KILN_BUFFER_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
  uint8_t *data;
  size_t start, len, cap; /* the bytes are data[start .. start+len) */
};

/* Room for `n` more bytes at the end, not yet counted; NULL without memory. */
uint8_t *buffer_reserve(struct buffer *b, size_t n);
bool buffer_append(struct buffer *b, const void *bytes, size_t n);
void buffer_consume(struct buffer *b, size_t n);
static inline const uint8_t *buffer_head(const struct buffer *b) { return b->data + b->start; }
/* Empties it; a little of its memory stays for what comes next. */
void buffer_clear(struct buffer *b);
/* Empties it and gives its memory back. */
void buffer_free(struct buffer *b);
#endif
