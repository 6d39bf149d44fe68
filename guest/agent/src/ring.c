#include "ring.h"
#include <string.h>
#include <sys/mman.h>

bool ring_open(struct ring *r, size_t cap) {
  void *data = mmap(NULL, cap, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) return false;
  *r = (struct ring){.data = data, .cap = cap};
  return true;
}

void ring_close(struct ring *r) {
  if (r->data) munmap(r->data, r->cap);
  r->data = NULL;
  r->cap = 0;
  r->start = r->end;
}

void ring_append(struct ring *r, const uint8_t *bytes, size_t n) {
  if (n > ring_space(r)) r->start = r->end + n - r->cap;
  size_t at = (size_t)(r->end % r->cap);
  size_t first = n < r->cap - at ? n : r->cap - at;
  memcpy(r->data + at, bytes, first);
  memcpy(r->data, bytes + first, n - first);
  r->end += n;
}

void ring_discard(struct ring *r, uint64_t offset) {
  if (offset > r->start && offset <= r->end) r->start = offset;
}

void ring_copy(const struct ring *r, uint64_t offset, uint8_t *out, size_t n) {
  size_t at = (size_t)(offset % r->cap);
  size_t first = n < r->cap - at ? n : r->cap - at;
  memcpy(out, r->data + at, first);
  memcpy(out + first, r->data, n - first);
}
