/* Connections into the guest. A socket is read only when its bytes may go to the host, so the kernel's buffers are the only ones in that direction. */
#include "dial.h"
#include "agent.h"
#include "bytes.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

enum { DATA_END = 1, CREDIT_STEP = WIRE_CONNECTION_WINDOW_BYTES / 4, EVENTS = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET };

struct dial {
  struct watch watch;
  uint32_t stream, request;
  uint16_t port;
  bool is_tcp, used;
  bool connecting;         /* the DIAL is not answered yet */
  int at, first_error;     /* the address that is tried, and why the first was refused */
  bool readable, writable; /* since the last edge */
  bool answered;           /* UDP: its socket has something behind it, so its address stays */
  bool end_received, end_sent;
  struct ring in;          /* from the host; end: received, start: written to the socket */
  uint64_t told;           /* of in.start, by CREDIT */
  uint64_t sent, credit;   /* to the host, and how much of it the host has taken */
  struct buffer datagram;  /* parts of one */
};

static struct {
  struct dial all[WIRE_CONNECTIONS];
  struct dial *open[WIRE_CONNECTIONS]; /* the first `count` are used */
  int count, turn;
} dials;

static struct dial *dial_of_stream(uint32_t stream) {
  for (int i = 0; i < dials.count; i++) {
    if (dials.open[i]->stream == stream) return dials.open[i];
  }
  return NULL;
}

/* What is left unread or unsent makes it a reset for the other end. */
static void abort_socket(struct dial *d) {
  struct linger now = {.l_onoff = 1, .l_linger = 0};
  if (d->watch.fd >= 0 && d->is_tcp) setsockopt(d->watch.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  loop_close_watch(agent.loop, &d->watch);
}

static void remove_dial(struct dial *d) {
  loop_close_watch(agent.loop, &d->watch);
  ring_close(&d->in);
  buffer_free(&d->datagram);
  d->used = false;
  for (int i = 0; i < dials.count; i++) {
    if (dials.open[i] != d) continue;
    dials.open[i] = dials.open[--dials.count];
    return;
  }
}

static void tell_reset(uint32_t stream) {
  struct frame f = {.type = FRAME_RESET, .stream = stream};
  if (!frame_put(&agent.channel.control, &f, NULL, 0)) session_violated();
}

static void break_off(struct dial *d) {
  uint32_t stream = d->stream;
  abort_socket(d);
  remove_dial(d);
  tell_reset(stream);
}

void dial_close_all(void) {
  while (dials.count > 0) {
    abort_socket(dials.open[0]);
    remove_dial(dials.open[0]);
  }
}

static void on_dial(struct watch *w, uint32_t events);

/* 0: connected or on the way; else why not. */
static int connect_to(struct dial *d, const struct sockaddr_storage *address, socklen_t length) {
  int fd = socket(address->ss_family, (d->is_tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
  if (fd < 0) return errno;
  if (agent.connect(fd, (const struct sockaddr *)address, length) < 0 && errno != EINPROGRESS) {
    int error = errno;
    close(fd);
    return error;
  }
  if (d->is_tcp) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  loop_close_watch(agent.loop, &d->watch);
  d->watch = (struct watch){.fd = fd, .ready = on_dial};
  d->readable = d->writable = false;
  loop_set(agent.loop, &d->watch, EVENTS);
  return 0;
}

/* Goes on to the next address that does not refuse at once; false where none is left. */
static bool try_next(struct dial *d) {
  struct sockaddr_storage address;
  socklen_t length;
  while (dial_address(d->at, d->port, &address, &length)) {
    d->at++;
    int error = connect_to(d, &address, length);
    if (error == 0) return true;
    if (d->first_error == 0) d->first_error = error;
  }
  return false;
}

static void refuse(struct dial *d) {
  reply_error(d->request, ERROR_FAILED, d->first_error, "nothing takes connections on port %u", d->port);
  abort_socket(d);
  remove_dial(d);
}

/* Bytes of the host into the socket, then the end of them; false where the connection broke and is gone. */
static bool flush(struct dial *d) {
  while (d->writable && ring_len(&d->in) > 0) {
    size_t at = (size_t)(d->in.start % d->in.cap), n = ring_len(&d->in);
    if (n > d->in.cap - at) n = d->in.cap - at;
    ssize_t written = send(d->watch.fd, d->in.data + at, n, MSG_NOSIGNAL);
    if (written > 0) {
      d->in.start += (uint64_t)written;
    } else if (written < 0 && errno == EAGAIN) {
      d->writable = false;
    } else if (written == 0 || errno != EINTR) {
      break_off(d);
      return false;
    }
  }
  if (ring_len(&d->in) > 0 || !d->end_received || d->connecting) return true;
  shutdown(d->watch.fd, SHUT_WR);
  if (d->end_sent) remove_dial(d);
  return true;
}

static void finish_connect(struct dial *d) {
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(d->watch.fd, SOL_SOCKET, SO_ERROR, &error, &length);
  if (error) {
    if (d->first_error == 0) d->first_error = error;
    if (!try_next(d)) refuse(d);
    return;
  }
  d->connecting = false;
  d->readable = d->writable = true;
  reply_ok(d->request);
  flush(d);
}

static void on_dial(struct watch *w, uint32_t events) {
  struct dial *d = (struct dial *)((char *)w - offsetof(struct dial, watch));
  if (d->connecting) {
    if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) finish_connect(d);
    return;
  }
  if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) d->readable = true;
  if (!d->is_tcp || !(events & (EPOLLOUT | EPOLLHUP | EPOLLERR))) return;
  d->writable = true;
  flush(d);
}

static struct dial *new_dial(uint32_t stream, bool is_tcp, uint32_t port) {
  struct dial *d = dials.all;
  while (d->used) d++;
  *d = (struct dial){.watch = {.fd = -1}, .stream = stream, .port = (uint16_t)port, .is_tcp = is_tcp, .used = true};
  dials.open[dials.count++] = d;
  return d;
}

void dial_start(uint32_t request, uint32_t stream, uint32_t protocol, uint32_t port) {
  bool is_known = protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP;
  if (!is_known || stream == 0 || port == 0 || port > UINT16_MAX || dial_of_stream(stream) || exec_of_stream(stream)) {
    reply_error(request, ERROR_INVALID, 0, "the connection cannot be read");
    return;
  }
  if (dials.count == WIRE_CONNECTIONS) {
    reply_error(request, ERROR_LIMIT, 0, "%u connections are open", WIRE_CONNECTIONS);
    return;
  }
  struct dial *d = new_dial(stream, protocol == PROTOCOL_TCP, port);
  d->request = request;
  d->connecting = d->is_tcp;
  if (!try_next(d)) refuse(d);
  else if (!d->is_tcp) reply_ok(request);
}

/* Nobody listens there, which a socket that has never answered says after it was written to. */
static bool was_refused(struct dial *d) {
  int error = 0;
  socklen_t length = sizeof error;
  return !d->answered && getsockopt(d->watch.fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == ECONNREFUSED;
}

/* To the first address where somebody listens; what finds nobody, or no room, is lost as on any network. */
static void send_datagram(struct dial *d, const uint8_t *bytes, size_t n) {
  for (int tries = 0; tries < DIAL_ADDRESSES; tries++) {
    bool is_sent = send(d->watch.fd, bytes, n, MSG_NOSIGNAL) >= 0;
    if (!is_sent && errno != ECONNREFUSED) return;
    if (!is_sent && d->answered) continue; /* the refusal is of an earlier one */
    if (is_sent && !was_refused(d)) return;
    if (!try_next(d)) break;
  }
  if (d->answered) return;
  d->at = 0;
  try_next(d);
}

static bool take_datagram(struct dial *d, const struct frame *f) {
  bool more = f->flags & WIRE_MORE_FLAG;
  if ((f->flags & DATA_END) || d->datagram.len + f->length > WIRE_DATAGRAM_BYTES) return false;
  if (!more && d->datagram.len == 0) {
    send_datagram(d, f->payload, f->length);
    return true;
  }
  if (!buffer_append(&d->datagram, f->payload, f->length)) return false;
  if (more) return true;
  send_datagram(d, buffer_head(&d->datagram), d->datagram.len);
  buffer_free(&d->datagram);
  return true;
}

static bool take_bytes(struct dial *d, const struct frame *f) {
  bool end = f->flags & DATA_END;
  if (d->end_received || (f->length == 0 && !end) || f->length > WIRE_CONNECTION_WINDOW_BYTES - ring_len(&d->in)) return false;
  if (!d->in.data && f->length > 0) {
    if (!ring_open(&d->in, WIRE_CONNECTION_WINDOW_BYTES)) {
      break_off(d);
      return true;
    }
  }
  if (f->length > 0) ring_append(&d->in, f->payload, f->length);
  d->end_received = end;
  if (!d->connecting) flush(d);
  return true;
}

static bool take_credit(struct dial *d, const struct frame *f) {
  if (f->length != 8 || !d->is_tcp) return false;
  uint64_t taken = get64(f->payload);
  if (taken < d->credit || taken > d->sent) return false;
  d->credit = taken;
  return true;
}

bool dial_frame(const struct frame *f) {
  struct dial *d = dial_of_stream(f->stream);
  if (f->type == FRAME_RESET) {
    if (d && d->connecting) reply_error(d->request, ERROR_FAILED, ECANCELED, "the connection was broken off");
    if (d) break_off(d);
    else tell_reset(f->stream);
    return true;
  }
  if (!d) return true;
  if (f->type == FRAME_CREDIT) return take_credit(d, f);
  return d->is_tcp ? take_bytes(d, f) : take_datagram(d, f);
}

static bool send_credit(struct dial *d, struct buffer *out) {
  uint8_t taken[8];
  put64(taken, d->in.start);
  struct frame f = {.type = FRAME_CREDIT, .stream = d->stream, .payload = taken, .length = sizeof taken};
  if (!frame_put(out, &f, NULL, 0)) return false;
  d->told = d->in.start;
  return true;
}

static bool send_end(struct dial *d, struct buffer *out) {
  struct frame f = {.type = FRAME_DATA, .flags = DATA_END, .stream = d->stream};
  if (!frame_put(out, &f, NULL, 0)) return false;
  d->end_sent = true;
  if (d->end_received && ring_len(&d->in) == 0) remove_dial(d);
  return true;
}

/* Whether it sent a frame. */
static bool send_bytes(struct dial *d, struct buffer *out) {
  static uint8_t bytes[WIRE_PAYLOAD_BYTES];
  uint64_t n = WIRE_CONNECTION_WINDOW_BYTES - (d->sent - d->credit);
  if (!d->readable || d->end_sent || n == 0) return false;
  if (n > sizeof bytes) n = sizeof bytes;
  ssize_t got = recv(d->watch.fd, bytes, (size_t)n, 0);
  if (got == 0) return send_end(d, out);
  if (got < 0) {
    if (errno == EAGAIN) d->readable = false;
    else if (errno != EINTR) break_off(d);
    return false;
  }
  struct frame f = {.type = FRAME_DATA, .stream = d->stream, .payload = bytes, .length = (uint32_t)got};
  if (!frame_put(out, &f, NULL, 0)) {
    break_off(d); /* without memory its bytes are lost */
    return false;
  }
  d->sent += (uint64_t)got;
  return true;
}

static bool send_datagrams(struct dial *d, struct buffer *out) {
  static uint8_t bytes[WIRE_DATAGRAM_BYTES];
  if (!d->readable) return false;
  ssize_t got = recv(d->watch.fd, bytes, sizeof bytes, 0);
  if (got < 0) {
    if (errno == EAGAIN) d->readable = false;
    return false; /* a refusal that came late */
  }
  d->answered = true;
  struct frame f = {.type = FRAME_DATA, .stream = d->stream, .payload = bytes, .length = (uint32_t)got};
  return frame_put_split(out, f);
}

/* A frame at most, beside a credit. */
static bool take_turn(struct dial *d, struct buffer *out) {
  if (!d->is_tcp) return send_datagrams(d, out);
  bool sent = d->in.start - d->told >= CREDIT_STEP && send_credit(d, out);
  return send_bytes(d, out) || sent;
}

void dial_fill(struct buffer *out, size_t limit) {
  int quiet = 0;
  while (out->len < limit && quiet < dials.count) {
    if (dials.turn >= dials.count) dials.turn = 0;
    quiet = take_turn(dials.open[dials.turn++], out) ? 0 : quiet + 1;
  }
}
