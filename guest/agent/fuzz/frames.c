/* Fuzz target: the whole path of bytes from the host, up to but without starting a process, a command's rings, and connections to nobody. The first byte says how the rest is cut into reads. */
#include "agent.h"
#include "dial.h"
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void setup(struct agent *a, uint32_t request, uint8_t *payload, uint32_t length) {
  (void)payload;
  (void)length;
  a->ready = true;
  reply_ok(request);
}

static void power_off(struct agent *a) { (void)a; }
static void signal_all(int number) { (void)number; }

/* Every port by its number: refused, silent, or says something and hangs up. No address of this machine is dialed. */
static int connect_nobody(int fd, const struct sockaddr *address, socklen_t length) {
  static const char said[3000];
  struct sockaddr_in v4;
  int ends[2], type;
  socklen_t size = sizeof type;
  memcpy(&v4, address, length < sizeof v4 ? length : sizeof v4);
  unsigned kind = ntohs(v4.sin_port) % 3;
  errno = ECONNREFUSED;
  if (kind == 0) return -1;
  getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
  if (socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, ends) < 0 || dup2(ends[0], fd) < 0) abort();
  close(ends[0]);
  if (kind == 1 && send(ends[1], said, sizeof said, MSG_NOSIGNAL) < 0) abort();
  close(ends[1]);
  return 0;
}

/* A command "a" that has ended with output to give, without a process: signals go nowhere. */
static void add_command(void) {
  static const uint8_t output[100000];
  struct exec *e = calloc(1, sizeof *e);
  strcpy(e->id, "a");
  e->state = STATE_EXITED;
  e->reaped = e->has_stdin = true;
  e->start.fd = e->cgroup = -1;
  for (int i = 0; i < 2; i++) {
    e->out[i].watch.fd = -1;
    ring_open(&e->out[i].ring, WIRE_RING_BYTES);
    ring_append(&e->out[i].ring, output, sizeof output);
    e->out[i].ended = true;
  }
  int pipe_ends[2];
  if (pipe(pipe_ends) < 0) abort();
  close(pipe_ends[0]);
  input_open(e, pipe_ends[1]);
  agent.execs.first = e;
  agent.execs.count = 1;
}

static void feed(const uint8_t *data, size_t size, size_t step) {
  struct frame_reader *reader = &agent.channel.reader;
  while (size > 0) {
    size_t room, n = size < step ? size : step;
    uint8_t *at = frame_reader_room(reader, &room);
    if (n > room) n = room;
    memcpy(at, data, n);
    reader->len += n;
    data += n;
    size -= n;
    struct frame f;
    while (frame_reader_next(reader, &f)) {
      uint16_t op = f.flags & (uint16_t)~WIRE_MORE_FLAG;
      bool forks = f.type == FRAME_REQUEST && (op == OP_SYNC || op == OP_CLOCK || op == OP_EXEC);
      if (!forks) session_frame(&f);
    }
    struct buffer out = {0};
    loop_wait(agent.loop, 0);
    exec_fill(&out, 65536);
    dial_fill(&out, 131072);
    buffer_free(&out);
    if (agent.channel.control.len > 1 << 20) channel_forget();
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static bool opened;
  if (size < 1) return 0;
  if (!opened) agent_open(-1);
  opened = true;
  agent.setup = setup;
  agent.power_off = power_off;
  agent.signal_all = signal_all;
  agent.connect = connect_nobody;
  agent.ready = true;
  frame_reader_reset(&agent.channel.reader);
  agent.session.has_epoch = false;
  agent.power.phase = POWER_ON;
  session_reset();
  add_command();
  feed(data + 1, size - 1, (size_t)data[0] * 64 + 1);
  channel_forget();
  struct exec *e = exec_find("a");
  if (e) exec_forget(e);
  exec_tick();
  return 0;
}
