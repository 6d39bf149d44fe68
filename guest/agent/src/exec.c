/* The table of commands: starting, ending, forgetting, and the turns of their output. */
#include "agent.h"
#include "bytes.h"
#include "cgroup.h"
#include "tlv.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OFFSET_BYTES = 8, CHUNK_BYTES = WIRE_PAYLOAD_BYTES - OFFSET_BYTES };

struct exec *exec_find(const char *id) {
  struct exec *e = agent.execs.first;
  while (e && strcmp(e->id, id) != 0) e = e->next;
  return e;
}

struct exec *exec_of_stream(uint32_t stream) {
  struct exec *e = agent.execs.first;
  while (e && !(e->attached && e->stream == stream)) e = e->next;
  return e;
}

static void give_back_cgroup(struct exec *e) {
  cgroup_give_back(e->cgroup);
  e->cgroup = -1;
}

/* Takes it off the table; its memory goes when no event can name it. */
static void remove_exec(struct exec *e) {
  struct exec **at = &agent.execs.first;
  while (*at != e) at = &(*at)->next;
  *at = e->next;
  if (agent.execs.turn == e) agent.execs.turn = e->next;
  agent.execs.count--;
  give_back_cgroup(e);
  loop_close_watch(agent.loop, &e->start);
  output_close(&e->out[0]);
  output_close(&e->out[1]);
  input_close(&e->in);
  e->next = agent.execs.forgotten;
  agent.execs.forgotten = e;
}

static void add_waiter(struct exec *e, uint32_t request) {
  if (e->waiter_count == WAITERS) {
    reply_error(request, ERROR_LIMIT, 0, "the command %s is awaited too often", e->id);
    return;
  }
  e->waiters[e->waiter_count].request = request;
  e->waiters[e->waiter_count++].generation = agent.session.generation;
}

static void answer_waiters(struct exec *e, uint16_t error, int number, const char *message) {
  for (int i = 0; i < e->waiter_count; i++) {
    if (e->waiters[i].generation != agent.session.generation) continue;
    if (error) reply_error(e->waiters[i].request, error, number, "%s", message);
    else reply_ok(e->waiters[i].request);
  }
  e->waiter_count = 0;
}

/* The child's report pipe: closed by execve, or it says why there was none. */
static void on_start(struct watch *w, uint32_t events) {
  (void)events;
  struct exec *e = (struct exec *)((char *)w - offsetof(struct exec, start));
  ssize_t n = read(w->fd, e->start_report + e->start_len, sizeof e->start_report - 1 - e->start_len);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n > 0) {
    e->start_len += (size_t)n;
    return;
  }
  loop_close_watch(agent.loop, w);
  if (e->start_len < 8) {
    e->state = e->reaped ? STATE_EXITED : STATE_RUNNING;
    answer_waiters(e, ERROR_OK, 0, NULL);
    return;
  }
  answer_waiters(e, (uint16_t)get32(e->start_report), (int)get32(e->start_report + 4), (const char *)e->start_report + 8);
  remove_exec(e);
}

static struct exec *new_exec(const struct spawn_spec *spec) {
  struct exec *e = calloc(1, sizeof *e);
  if (!e) return NULL;
  strcpy(e->id, spec->id);
  e->state = STATE_STARTING;
  e->tty = spec->tty;
  e->has_stdin = spec->has_stdin;
  e->drop = spec->drop;
  e->cgroup = agent.cgroups ? cgroup_take() : -1;
  e->start.fd = e->in.watch.fd = e->out[0].watch.fd = e->out[1].watch.fd = -1;
  return e;
}

void exec_start(uint32_t request, const struct spawn_spec *spec) {
  struct exec *e = exec_find(spec->id);
  if (e && e->state == STATE_STARTING) {
    add_waiter(e, request);
    return;
  }
  if (e) {
    reply_ok(request);
    return;
  }
  struct spawned s;
  int error = ENOMEM;
  if (agent.execs.count == WIRE_EXECS) {
    reply_error(request, ERROR_LIMIT, 0, "%u commands run or are not forgotten", WIRE_EXECS);
    return;
  }
  if (!(e = new_exec(spec)) || (error = spawn(spec, e->cgroup, &s)) != 0) {
    if (e) give_back_cgroup(e);
    free(e);
    reply_error(request, ERROR_LIMIT, error, "the command cannot be started");
    return;
  }
  e->pid = s.pid;
  e->next = agent.execs.first;
  agent.execs.first = e;
  agent.execs.count++;
  add_waiter(e, request);
  e->start = (struct watch){.fd = s.report, .ready = on_start};
  loop_set(agent.loop, &e->start, EPOLLIN);
  output_open(e, 0, s.out);
  output_open(e, 1, s.err);
  input_open(e, s.in);
}

bool exec_forget(struct exec *e) {
  if (!e->reaped) return false;
  remove_exec(e);
  return true;
}

void exec_reaped(pid_t pid, int status) {
  struct exec *e = agent.execs.first;
  while (e && (e->pid != pid || e->reaped)) e = e->next;
  if (!e) return;
  e->reaped = true;
  if (WIFSIGNALED(status)) e->signal = WTERMSIG(status);
  else e->exit_code = WEXITSTATUS(status);
  if (e->state == STATE_RUNNING) e->state = STATE_EXITED;
  e->oom_killed = cgroup_had_oom_kill(e->cgroup);
  give_back_cgroup(e);
  input_close(&e->in);
  output_leader_ended(&e->out[0], e->tty);
  output_leader_ended(&e->out[1], e->tty);
}

void exec_attach(struct exec *e, uint32_t stream) {
  e->attached = true;
  e->exit_sent = false;
  e->stream = stream;
  for (int i = 0; i < 2; i++) e->out[i].sent = e->out[i].acked = e->out[i].ring.start;
}

void exec_detach_all(void) {
  for (struct exec *e = agent.execs.first; e; e = e->next) e->attached = false;
}

void exec_acknowledge(struct exec *e, uint16_t stream, uint64_t offset) {
  if (stream != OUTPUT_STDOUT && stream != OUTPUT_STDERR) return;
  struct output *o = &e->out[stream - OUTPUT_STDOUT];
  if (offset <= o->acked || offset > o->sent) return;
  o->acked = offset;
  ring_discard(&o->ring, offset);
  output_release(o);
  output_resume(o);
}

void exec_info(const struct exec *e, struct buffer *out) {
  uint8_t info[WIRE_EXEC_INFO_BYTES + WIRE_EXEC_ID_BYTES] = {0};
  uint32_t flags = (e->oom_killed ? EXEC_FLAG_OOM_KILLED : 0) | (e->tty ? EXEC_FLAG_TTY : 0) | (e->has_stdin ? EXEC_FLAG_STDIN : 0) |
                   (e->drop ? EXEC_FLAG_DROP : 0) | (e->in.closed ? EXEC_FLAG_STDIN_CLOSED : 0);
  size_t id_len = strlen(e->id);
  put32(info, e->state);
  put32(info + 4, (uint32_t)e->exit_code);
  put32(info + 8, (uint32_t)e->signal);
  put32(info + 12, flags);
  for (int i = 0; i < 2; i++) {
    put64(info + 16 + 16 * i, e->out[i].ring.start);
    put64(info + 24 + 16 * i, e->out[i].ring.end);
  }
  put64(info + 48, e->in.ring.end);
  put64(info + 56, e->in.ring.start);
  put64(info + 64, (uint64_t)e->pid);
  memcpy(info + WIRE_EXEC_INFO_BYTES, e->id, id_len);
  tlv_put(out, TAG_EXEC_INFO, info, WIRE_EXEC_INFO_BYTES + id_len);
}

/* One frame of one output; false where nothing may go. */
static bool send_output(struct exec *e, int index, struct buffer *out) {
  struct output *o = &e->out[index];
  if (o->sent < o->ring.start) {
    if (o->acked < o->sent) return false; /* a gap is told when all before it is safe */
    o->sent = o->acked = o->ring.start;
  }
  uint64_t n = o->ring.end - o->sent, window = WIRE_RING_BYTES - (o->sent - o->acked);
  if (n > window) n = window;
  if (n > CHUNK_BYTES) n = CHUNK_BYTES;
  if (n == 0) return false;
  uint8_t offset[OFFSET_BYTES], chunk[CHUNK_BYTES];
  put64(offset, o->sent);
  ring_copy(&o->ring, o->sent, chunk, (size_t)n);
  struct frame f = {.type = FRAME_OUTPUT, .flags = (uint16_t)(OUTPUT_STDOUT + index), .stream = e->stream, .payload = offset, .length = sizeof offset};
  if (!frame_put(out, &f, chunk, (size_t)n)) return false;
  o->sent += n;
  return true;
}

static bool send_window(struct exec *e, struct buffer *out) {
  uint8_t payload[16];
  put64(payload, e->in.ring.end);
  put64(payload + 8, e->in.ring.start);
  struct frame f = {.type = FRAME_WINDOW, .flags = e->in.closed, .stream = e->stream, .payload = payload, .length = sizeof payload};
  if (!frame_put(out, &f, NULL, 0)) return false;
  e->in.window_due = false;
  return true;
}

static bool all_sent(const struct output *o) { return o->ended && o->sent == o->ring.end; }

static bool send_exit(struct exec *e, struct buffer *out) {
  struct buffer info = {0};
  exec_info(e, &info);
  struct frame f = {.type = FRAME_EXIT, .stream = e->stream, .payload = info.data, .length = (uint32_t)info.len};
  e->exit_sent = info.len > 0 && frame_put(out, &f, NULL, 0);
  buffer_free(&info);
  return e->exit_sent;
}

/* One command's turn: a frame of each output at most. */
static bool take_turn(struct exec *e, struct buffer *out) {
  if (!e->attached || e->state == STATE_STARTING) return false;
  bool sent = e->in.window_due && send_window(e, out);
  sent |= send_output(e, 0, out);
  sent |= send_output(e, 1, out);
  if (e->reaped && !e->exit_sent && all_sent(&e->out[0]) && all_sent(&e->out[1])) sent |= send_exit(e, out);
  return sent;
}

void exec_fill(struct buffer *out, size_t limit) {
  struct execs *x = &agent.execs;
  int quiet = 0;
  while (out->len < limit && quiet < x->count) {
    struct exec *e = x->turn ? x->turn : x->first;
    x->turn = e->next;
    quiet = take_turn(e, out) ? 0 : quiet + 1;
  }
}

void exec_tick(void) {
  while (agent.execs.forgotten) {
    struct exec *e = agent.execs.forgotten;
    agent.execs.forgotten = e->next;
    free(e);
  }
  for (struct exec *e = agent.execs.first; e; e = e->next) {
    if (e->tty_deadline_ms == 0 || loop_now_ms() < e->tty_deadline_ms) continue;
    bool paused = e->out[0].watch.interest == 0;
    e->tty_deadline_ms = 0;
    if (!e->reaped) output_resume(&e->out[0]);
    else if (!paused) output_abandon(&e->out[0]); /* else the ring is full, and room in it begins a new moment */
  }
}

int exec_timeout_ms(void) {
  int64_t least = -1;
  for (struct exec *e = agent.execs.first; e; e = e->next) {
    if (e->tty_deadline_ms == 0) continue;
    int64_t left = e->tty_deadline_ms - loop_now_ms();
    if (left < 0) left = 0;
    if (least < 0 || left < least) least = left;
  }
  return (int)least;
}
