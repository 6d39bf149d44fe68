/* Sessions: what a HELLO opens, and the frames that are acted on while it lasts. */
#include "agent.h"
#include "bytes.h"
#include "dial.h"
#include <string.h>

enum { NONCE_AT = 8, VERSION_AT = 24, EPOCH_AT = 28, SESSIONS_AT = 32, READY_AT = 36 };

/* Forgets the conversation; commands, rings and the epoch's count stay. */
void session_reset(void) {
  struct session *s = &agent.session;
  s->open = false;
  s->generation++;
  s->request_partial = false;
  buffer_free(&s->request);
  exec_detach_all();
  dial_close_all();
}

void session_violated(void) {
  session_reset();
  channel_forget();
  agent.channel.reader.lost = true;
}

static void acknowledge(const uint8_t *nonce, uint16_t error) {
  struct session *s = &agent.session;
  uint8_t payload[WIRE_HELLO_ACK_BYTES];
  memcpy(payload, WIRE_MAGIC, NONCE_AT);
  memcpy(payload + NONCE_AT, nonce, WIRE_NONCE_BYTES);
  put32(payload + VERSION_AT, WIRE_VERSION);
  put32(payload + EPOCH_AT, s->epoch);
  put32(payload + SESSIONS_AT, s->sessions);
  put32(payload + READY_AT, agent.ready);
  struct frame f = {.type = FRAME_HELLO_ACK, .flags = error, .payload = payload, .length = sizeof payload};
  frame_put(&agent.channel.control, &f, NULL, 0);
}

static void hello(const struct frame *f) {
  struct session *s = &agent.session;
  uint8_t nonce[WIRE_NONCE_BYTES];
  memcpy(nonce, f->payload + NONCE_AT, sizeof nonce);
  uint32_t version = get32(f->payload + VERSION_AT), epoch = get32(f->payload + EPOCH_AT);
  if (s->open && memcmp(nonce, s->nonce, sizeof nonce) == 0) {
    acknowledge(nonce, ERROR_OK);
    return;
  }
  session_reset();
  channel_forget();
  if (version != WIRE_VERSION || (s->has_epoch && epoch < s->epoch)) {
    acknowledge(nonce, version != WIRE_VERSION ? ERROR_UNSUPPORTED : ERROR_STALE_EPOCH);
    agent.channel.reader.lost = true;
    return;
  }
  if (!s->has_epoch || epoch > s->epoch) {
    s->has_epoch = true;
    s->epoch = epoch;
    s->sessions = 0;
    agent.ready = agent.rehearsed = false;
  }
  s->sessions++;
  s->open = true;
  memcpy(s->nonce, nonce, sizeof nonce);
  acknowledge(nonce, ERROR_OK);
}

/* A request in one frame runs from the reader's own bytes; a split one is put together first. */
static void request(const struct frame *f) {
  struct session *s = &agent.session;
  bool more = f->flags & WIRE_MORE_FLAG;
  if (!more && !s->request_partial) {
    request_run(f->flags, f->stream, f->payload, f->length);
    return;
  }
  bool fits = s->request.len + f->length <= WIRE_REQUEST_BYTES && (!s->request_partial || s->request_stream == f->stream);
  if (!fits || !buffer_append(&s->request, f->payload, f->length)) {
    session_violated();
    return;
  }
  s->request_partial = more;
  s->request_stream = f->stream;
  if (more) return;
  struct buffer whole = s->request;
  s->request = (struct buffer){0};
  request_run(f->flags, f->stream, whole.len ? whole.data + whole.start : f->payload, (uint32_t)whole.len);
  buffer_free(&whole);
}

void session_frame(struct frame *f) {
  if (f->type == FRAME_HELLO) {
    hello(f);
    return;
  }
  struct exec *e = f->type == FRAME_ACK || f->type == FRAME_STDIN ? exec_of_stream(f->stream) : NULL;
  switch (f->type) {
    case FRAME_REQUEST:
      request(f);
      return;
    case FRAME_ACK:
      if (f->length != 8) session_violated();
      else if (e) exec_acknowledge(e, f->flags, get64(f->payload));
      return;
    case FRAME_STDIN:
      if (f->length < 8 || (e && !exec_stdin(e, f))) session_violated();
      return;
    case FRAME_DATA:
    case FRAME_CREDIT:
    case FRAME_RESET:
      if (!dial_frame(f)) session_violated();
      return;
    case FRAME_BYE:
      agent.power.bye = true;
      return;
    default: /* a frame that only the guest sends */
      session_violated();
  }
}
