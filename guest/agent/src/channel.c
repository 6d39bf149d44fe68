/* Bytes to and from the host. Never waits: what cannot be written now is written when the host has room. */
#include "agent.h"
#include "dial.h"
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
  OUT_LOW = 32 * 1024,         /* output is framed only while less than this is on its way: a reply never waits behind more */
  CONTROL_HIGH = 256 * 1024,   /* requests are not read while this many bytes of answers wait */
  READS_PER_PUMP = 8,          /* then the commands' pipes get a turn */
  DOWN_POLL_MS = 250,          /* a hung-up port wakes us when the host comes; this is for one that does not */
};

static void on_channel(struct watch *w, uint32_t events) {
  (void)w;
  struct channel *c = &agent.channel;
  if (events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP)) c->readable = true;
  if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) c->writable = true;
}

static void watch_channel(int fd) {
  struct channel *c = &agent.channel;
  c->watch = (struct watch){.fd = fd, .ready = on_channel};
  c->readable = c->writable = true;
  c->down = false;
  frame_reader_reset(&c->reader);
  loop_set(agent.loop, &c->watch, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
}

/* A new connection replaces the one before: the host has one at a time. */
static void on_listener(struct watch *w, uint32_t events) {
  (void)events;
  int fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) return;
  if (agent.accepts && !agent.accepts(fd)) {
    close(fd);
    return;
  }
  loop_close_watch(agent.loop, &agent.channel.watch);
  session_reset();
  channel_forget();
  watch_channel(fd);
}

void channel_open_port(int fd) {
  agent.channel.is_port = true;
  agent.channel.listener.fd = -1;
  watch_channel(fd);
}

void channel_open_listener(int fd) {
  agent.channel.watch.fd = -1;
  agent.channel.listener = (struct watch){.fd = fd, .ready = on_listener};
  loop_set(agent.loop, &agent.channel.listener, EPOLLIN);
}

void channel_forget(void) {
  buffer_clear(&agent.channel.out);
  buffer_clear(&agent.channel.control);
}

bool channel_flushed(void) { return agent.channel.watch.fd < 0 || (agent.channel.out.len == 0 && agent.channel.control.len == 0); }

static void hang_up(void) {
  struct channel *c = &agent.channel;
  c->readable = c->writable = false;
  c->down = true;
  if (c->is_port) return;
  loop_close_watch(agent.loop, &c->watch);
  session_reset();
  channel_forget();
}

static void dispatch(void) {
  struct channel *c = &agent.channel;
  struct frame f;
  int fd = c->watch.fd;
  c->stalled = false;
  while (c->watch.fd == fd && !c->stalled && frame_reader_next(&c->reader, &f)) {
    session_frame(&f);
    c->stalled = c->control.len >= CONTROL_HIGH;
  }
}

static void read_some(void) {
  struct channel *c = &agent.channel;
  for (int i = 0; i < READS_PER_PUMP && c->readable && !c->stalled; i++) {
    size_t room;
    uint8_t *at = frame_reader_room(&c->reader, &room);
    ssize_t n = read(c->watch.fd, at, room);
    if (n > 0) {
      c->down = false;
      c->reader.len += (size_t)n;
      dispatch();
    } else if (n < 0 && errno == EAGAIN) {
      c->readable = false;
      c->down = false;
    } else if (n == 0 || errno != EINTR) {
      hang_up();
    }
  }
}

/* Moves what may go now into `out`: answers first, then output and connections by turns; neither kind can keep the other waiting. */
static void fill(void) {
  struct channel *c = &agent.channel;
  if (c->control.len > 0 && c->out.len < OUT_LOW) {
    if (!buffer_append(&c->out, buffer_head(&c->control), c->control.len)) return;
    buffer_clear(&c->control);
  }
  if (!agent.session.open) return;
  c->execs_first = !c->execs_first;
  if (c->execs_first) exec_fill(&c->out, OUT_LOW);
  dial_fill(&c->out, OUT_LOW);
  exec_fill(&c->out, OUT_LOW);
}

static void write_some(void) {
  struct channel *c = &agent.channel;
  c->drained = false;
  for (int i = 0; i < READS_PER_PUMP && c->writable && !c->drained; i++) {
    fill();
    c->drained = c->out.len == 0;
    if (c->drained) return;
    ssize_t n = write(c->watch.fd, buffer_head(&c->out), c->out.len);
    if (n > 0) {
      buffer_consume(&c->out, (size_t)n);
    } else if (n < 0 && errno == EAGAIN) {
      c->writable = false;
    } else if (n == 0 || errno != EINTR) {
      hang_up();
    }
  }
}

void channel_pump(void) {
  struct channel *c = &agent.channel;
  if (c->watch.fd < 0) return;
  if (c->down && c->is_port) c->readable = c->writable = true;
  if (c->stalled && c->control.len < CONTROL_HIGH) dispatch();
  if (c->watch.fd >= 0 && c->readable) read_some();
  if (c->watch.fd >= 0 && c->writable) write_some();
}

int channel_timeout_ms(void) {
  struct channel *c = &agent.channel;
  if (c->watch.fd < 0) return -1;
  if (c->down) return DOWN_POLL_MS;
  bool can_read = c->stalled ? c->control.len < CONTROL_HIGH : c->readable;
  bool can_write = c->writable && !c->drained;
  return can_read || can_write ? 0 : -1;
}
