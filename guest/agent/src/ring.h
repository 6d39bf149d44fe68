/* A ring of bytes that are numbered from the stream's first: it holds [start, end). */
#ifndef KILN_RING_H
#define KILN_RING_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring {
  uint8_t *data;
  size_t cap;
  uint64_t start, end;
};

/* Pages are taken only when they are written. */
bool ring_open(struct ring *r, size_t cap);
void ring_close(struct ring *r);
static inline size_t ring_len(const struct ring *r) { return (size_t)(r->end - r->start); }
static inline size_t ring_space(const struct ring *r) { return r->cap - ring_len(r); }
/* Appends all of it; what no longer fits pushes the oldest out. n <= cap. */
void ring_append(struct ring *r, const uint8_t *bytes, size_t n);
/* Forgets everything before `offset`; an offset outside [start, end] changes nothing. */
void ring_discard(struct ring *r, uint64_t offset);
/* Copies n bytes from `offset` on; start <= offset and offset + n <= end. */
void ring_copy(const struct ring *r, uint64_t offset, uint8_t *out, size_t n);
#endif
