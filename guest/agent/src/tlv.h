/* TLV { u16 tag, u16 zero, u32 length, bytes }. */
#ifndef KILN_TLV_H
#define KILN_TLV_H
#include "buffer.h"

struct tlv {
  uint16_t tag;
  uint8_t *value;
  uint32_t length;
};

/* The next field of [*at, end); 1, 0 at the end, -1 if it is cut off. */
int tlv_next(uint8_t **at, const uint8_t *end, struct tlv *field);
/* The value as a C string, moved one byte into its own header to make room; NULL if it contains a zero byte. Call once. */
char *tlv_string(struct tlv *field);
bool tlv_u32(const struct tlv *field, uint32_t *value);
bool tlv_u64(const struct tlv *field, uint64_t *value);

bool tlv_put(struct buffer *out, uint16_t tag, const void *bytes, size_t n);
bool tlv_put_u32(struct buffer *out, uint16_t tag, uint32_t value);
bool tlv_put_u64(struct buffer *out, uint16_t tag, uint64_t value);
bool tlv_put_string(struct buffer *out, uint16_t tag, const char *text);
#endif
