/* The pipes and terminals of commands: into rings, out of rings, never waiting. */
#include "agent.h"
#include "bytes.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { READ_BYTES = 16384, TTY_DRAIN_MS = 100, TTY_RETRY_MS = 50, STDIN_END = 1, TTY_EOF = 4, OFFSET_BYTES = 8 };

static void on_sink(struct watch *w, uint32_t events) {
  (void)events;
  char discarded[READ_BYTES];
  ssize_t n = read(w->fd, discarded, sizeof discarded);
  if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) loop_close_watch(agent.loop, w);
}

/* Somebody still writes to a pipe whose command has ended: a closed one would kill them by SIGPIPE. */
static void sink(int fd) {
  for (int i = 0; i < SINKS; i++) {
    struct watch *w = &agent.execs.sinks[i].watch;
    if (w->ready && w->fd >= 0) continue;
    *w = (struct watch){.fd = fd, .ready = on_sink};
    loop_set(agent.loop, w, EPOLLIN);
    return;
  }
  close(fd);
}

/* An ended command keeps memory only for what is not acknowledged. */
void output_release(struct output *o) {
  if (o->ended && ring_len(&o->ring) == 0) ring_close(&o->ring);
}

void output_abandon(struct output *o) {
  o->ended = true;
  output_release(o);
  if (o->watch.fd < 0) return;
  if (o->at_eof || o->exec->tty) {
    loop_close_watch(agent.loop, &o->watch);
    return;
  }
  loop_set(agent.loop, &o->watch, 0);
  sink(o->watch.fd);
  o->watch.fd = -1;
}

void output_close(struct output *o) {
  if (o->exec) output_abandon(o);
  ring_close(&o->ring);
}

static void on_output(struct watch *w, uint32_t events) {
  (void)events;
  struct output *o = (struct output *)((char *)w - offsetof(struct output, watch));
  bool draining = o->exec->reaped && !o->exec->tty;
  uint8_t bytes[READ_BYTES];
  size_t room = o->exec->drop ? sizeof bytes : ring_space(&o->ring);
  if (room > sizeof bytes) room = sizeof bytes;
  if (draining && room > o->drain_left) room = (size_t)o->drain_left;
  if (room == 0) {
    loop_set(agent.loop, w, 0); /* the ring is full: the command waits as on any pipe */
    return;
  }
  ssize_t n = read(w->fd, bytes, room);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0 && o->exec->tty && !o->exec->reaped) {
    /* nobody has the terminal open now; closing our side would kill the command while it ends, by SIGHUP */
    loop_set(agent.loop, w, 0);
    o->exec->tty_deadline_ms = loop_now_ms() + TTY_RETRY_MS;
    return;
  }
  if (n <= 0) {
    o->at_eof = true;
    output_abandon(o);
    return;
  }
  ring_append(&o->ring, bytes, (size_t)n);
  if (!draining) return;
  o->drain_left -= (uint64_t)n;
  if (o->drain_left == 0) output_abandon(o);
}

void output_open(struct exec *e, int index, int fd) {
  struct output *o = &e->out[index];
  o->exec = e;
  o->watch = (struct watch){.fd = fd, .ready = on_output};
  if (fd < 0 || !ring_open(&o->ring, WIRE_RING_BYTES)) {
    o->at_eof = true;
    output_abandon(o);
    return;
  }
  loop_set(agent.loop, &o->watch, EPOLLIN);
}

void output_resume(struct output *o) {
  if (o->ended) return;
  loop_set(agent.loop, &o->watch, EPOLLIN);
  if (o->exec->tty && o->exec->reaped) o->exec->tty_deadline_ms = loop_now_ms() + TTY_DRAIN_MS;
}

/* What a pipe holds at this moment is the command's last word; a terminal says itself when it is empty, or is given a moment. */
void output_leader_ended(struct output *o, bool tty) {
  if (o->ended) return;
  if (tty) {
    output_resume(o);
    return;
  }
  int left = 0;
  ioctl(o->watch.fd, FIONREAD, &left);
  o->drain_left = (uint64_t)left;
  if (left == 0) output_abandon(o);
  else output_resume(o);
}

void input_close(struct input *in) {
  loop_close_watch(agent.loop, &in->watch);
  in->closed = true;
  ring_close(&in->ring);
  in->window_due = true;
}

static void on_input(struct watch *w, uint32_t events) {
  (void)events;
  input_flush((struct input *)((char *)w - offsetof(struct input, watch)));
}

void input_open(struct exec *e, int fd) {
  e->in.exec = e;
  e->in.watch = (struct watch){.fd = fd, .ready = on_input};
  if (fd < 0 || !ring_open(&e->in.ring, WIRE_STDIN_WINDOW_BYTES)) input_close(&e->in);
}

void input_flush(struct input *in) {
  while (ring_len(&in->ring) > 0) {
    uint8_t bytes[READ_BYTES];
    size_t n = ring_len(&in->ring) < sizeof bytes ? ring_len(&in->ring) : sizeof bytes;
    ring_copy(&in->ring, in->ring.start, bytes, n);
    ssize_t written = write(in->watch.fd, bytes, n);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) {
      loop_set(agent.loop, &in->watch, EPOLLOUT);
      return;
    }
    if (written <= 0) {
      input_close(in);
      return;
    }
    ring_discard(&in->ring, in->ring.start + (uint64_t)written);
    in->window_due = true;
  }
  loop_set(agent.loop, &in->watch, 0);
  if (!in->eof_received) return;
  char eof = TTY_EOF;
  if (in->exec->tty && write(in->watch.fd, &eof, 1) < 0 && errno == EAGAIN) {
    loop_set(agent.loop, &in->watch, EPOLLOUT);
    return;
  }
  input_close(in);
}

bool exec_stdin(struct exec *e, const struct frame *f) {
  struct input *in = &e->in;
  uint64_t offset = get64(f->payload);
  const uint8_t *bytes = f->payload + OFFSET_BYTES;
  uint64_t n = f->length - OFFSET_BYTES;
  if (offset > in->ring.end || offset + n < offset) return false;
  uint64_t again = in->ring.end - offset;
  if (again > n) again = n;
  bytes += again;
  n -= again;
  in->window_due = true;
  if (in->closed) {
    in->ring.start = in->ring.end += n;
    return true;
  }
  if (n > ring_space(&in->ring) || (n > 0 && in->eof_received)) return false;
  ring_append(&in->ring, bytes, (size_t)n);
  if ((f->flags & STDIN_END) && offset + (f->length - OFFSET_BYTES) == in->ring.end) in->eof_received = true;
  input_flush(in);
  return true;
}
