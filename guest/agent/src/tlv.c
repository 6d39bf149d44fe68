#include "tlv.h"
#include "bytes.h"
#include <string.h>

enum { TLV_HEADER = 8 };

int tlv_next(uint8_t **at, const uint8_t *end, struct tlv *field) {
  size_t left = (size_t)(end - *at);
  if (left == 0) return 0;
  if (left < TLV_HEADER) return -1;
  field->tag = get16(*at);
  field->length = get32(*at + 4);
  if (field->length > left - TLV_HEADER) return -1;
  field->value = *at + TLV_HEADER;
  *at = field->value + field->length;
  return 1;
}

char *tlv_string(struct tlv *field) {
  if (memchr(field->value, 0, field->length)) return NULL;
  memmove(field->value - 1, field->value, field->length);
  field->value[(long)field->length - 1] = 0;
  field->value -= 1;
  return (char *)field->value;
}

bool tlv_u32(const struct tlv *field, uint32_t *value) {
  if (field->length != 4) return false;
  *value = get32(field->value);
  return true;
}

bool tlv_u64(const struct tlv *field, uint64_t *value) {
  if (field->length != 8) return false;
  *value = get64(field->value);
  return true;
}

bool tlv_put(struct buffer *out, uint16_t tag, const void *bytes, size_t n) {
  uint8_t *room = buffer_reserve(out, TLV_HEADER + n);
  if (!room) return false;
  put16(room, tag);
  put16(room + 2, 0);
  put32(room + 4, (uint32_t)n);
  if (n) memcpy(room + TLV_HEADER, bytes, n);
  out->len += TLV_HEADER + n;
  return true;
}

bool tlv_put_u32(struct buffer *out, uint16_t tag, uint32_t value) {
  uint8_t bytes[4];
  put32(bytes, value);
  return tlv_put(out, tag, bytes, sizeof bytes);
}

bool tlv_put_u64(struct buffer *out, uint16_t tag, uint64_t value) {
  uint8_t bytes[8];
  put64(bytes, value);
  return tlv_put(out, tag, bytes, sizeof bytes);
}

bool tlv_put_string(struct buffer *out, uint16_t tag, const char *text) { return tlv_put(out, tag, text, strlen(text)); }
