/* Answers to requests. One that belongs to an earlier session is not given: its asker is gone. */
#include "agent.h"
#include "tlv.h"
#include <stdarg.h>
#include <stdio.h>

void reply(uint32_t request, uint16_t error, struct buffer *payload) {
  struct frame f = {
      .type = FRAME_REPLY,
      .flags = error,
      .stream = request,
      .payload = payload && payload->len ? payload->data + payload->start : NULL,
      .length = payload ? (uint32_t)payload->len : 0,
  };
  if (!frame_put_split(&agent.channel.control, f)) session_violated();
}

void reply_ok(uint32_t request) { reply(request, ERROR_OK, NULL); }

void reply_error(uint32_t request, uint16_t error, int number, const char *format, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  struct buffer payload = {0};
  tlv_put_string(&payload, TAG_MESSAGE, text);
  if (number) tlv_put_u32(&payload, TAG_ERRNO, (uint32_t)number);
  reply(request, error, &payload);
  buffer_free(&payload);
}
