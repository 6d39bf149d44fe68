/* One function per op: reads its fields, acts, answers. */
#include "agent.h"
#include "bytes.h"
#include "dial.h"
#include "tlv.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysinfo.h>
#include <time.h>

/* The fields that the small requests have; NULL or false where absent. */
struct fields {
  const char *id;
  bool has_stream, has_number, has_clock, has_size;
  uint32_t stream, number, protocol, port; /* the last two 0 where absent */
  uint64_t clock_ns;
  uint16_t rows, cols;
};

static bool read_fields(uint8_t *payload, uint32_t length, struct fields *f) {
  struct tlv t;
  const uint8_t *end = payload + length;
  int more;
  while ((more = tlv_next(&payload, end, &t)) > 0) {
    switch (t.tag) {
      case TAG_EXEC_ID: f->id = tlv_string(&t); break;
      case TAG_STREAM: f->has_stream = tlv_u32(&t, &f->stream); break;
      case TAG_SIGNAL:
      case TAG_GRACE_MS: f->has_number = tlv_u32(&t, &f->number); break;
      case TAG_PROTOCOL: tlv_u32(&t, &f->protocol); break;
      case TAG_PORT: tlv_u32(&t, &f->port); break;
      case TAG_CLOCK_NS: f->has_clock = tlv_u64(&t, &f->clock_ns); break;
      case TAG_TTY:
        f->has_size = t.length == 4;
        if (f->has_size) f->rows = get16(t.value), f->cols = get16(t.value + 2);
        break;
      default: break;
    }
  }
  return more == 0;
}

static void invalid(uint32_t request, const char *what) { reply_error(request, ERROR_INVALID, 0, "%s", what); }

static void reply_info(uint32_t request, const struct exec *e) {
  struct buffer out = {0};
  exec_info(e, &out);
  reply(request, ERROR_OK, &out);
  buffer_free(&out);
}

static void list(uint32_t request) {
  struct buffer out = {0};
  for (struct exec *e = agent.execs.first; e; e = e->next) {
    if (e->state != STATE_STARTING) exec_info(e, &out);
  }
  reply(request, ERROR_OK, &out);
  buffer_free(&out);
}

static void stats(uint32_t request) {
  struct sysinfo info;
  sysinfo(&info);
  struct buffer out = {0};
  tlv_put_u64(&out, TAG_UPTIME_MS, (uint64_t)info.uptime * 1000);
  tlv_put_u64(&out, TAG_MEMORY_TOTAL, (uint64_t)info.totalram * info.mem_unit);
  tlv_put_u64(&out, TAG_MEMORY_AVAILABLE, (uint64_t)(info.freeram + info.bufferram) * info.mem_unit);
  reply(request, ERROR_OK, &out);
  buffer_free(&out);
}

static void set_clock(uint32_t request, const struct fields *f) {
  struct timespec now = {.tv_sec = (time_t)(f->clock_ns / 1000000000), .tv_nsec = (long)(f->clock_ns % 1000000000)};
  int error;
  if (!f->has_clock) invalid(request, "no clock");
  else if (agent.set_clock && (error = agent.set_clock(&now)) != 0) reply_error(request, ERROR_FAILED, error, "clock_settime");
  else reply_ok(request);
}

static void send_signal(uint32_t request, const struct fields *f, const struct exec *e) {
  if (!f->has_number || f->number < 1 || f->number > 64) invalid(request, "no signal");
  else if (e->reaped || kill(e->pid, (int)f->number) == 0 || errno == ESRCH) reply_ok(request);
  else reply_error(request, ERROR_FAILED, errno, "kill");
}

static void resize(uint32_t request, const struct fields *f, const struct exec *e) {
  struct winsize size = {.ws_row = f->rows, .ws_col = f->cols};
  if (!f->has_size || !e->tty) invalid(request, "not a terminal");
  else if (e->out[0].watch.fd >= 0 && ioctl(e->out[0].watch.fd, TIOCSWINSZ, &size) < 0) reply_error(request, ERROR_FAILED, errno, "TIOCSWINSZ");
  else reply_ok(request);
}

static void attach(uint32_t request, const struct fields *f, struct exec *e) {
  if (!f->has_stream) {
    invalid(request, "no stream");
    return;
  }
  exec_attach(e, f->stream);
  reply_info(request, e);
}

/* Requests about one command that exists. One that is still starting can be attached to, so that both requests travel at once. */
static void on_exec(uint16_t op, uint32_t request, const struct fields *f) {
  struct exec *e = f->id ? exec_find(f->id) : NULL;
  if (op == OP_FORGET && !e) reply_ok(request);
  else if (!e || (e->state == STATE_STARTING && op != OP_ATTACH)) reply_error(request, ERROR_EXEC_NOT_FOUND, 0, "no command %.64s", f->id ? f->id : "");
  else if (op == OP_ATTACH) attach(request, f, e);
  else if (op == OP_SIGNAL) send_signal(request, f, e);
  else if (op == OP_RESIZE) resize(request, f, e);
  else if (exec_forget(e)) reply_ok(request);
  else reply_error(request, ERROR_FAILED, EBUSY, "the command %s still runs", f->id);
}

static void detach(uint32_t request, const struct fields *f) {
  struct exec *e = f->has_stream ? exec_of_stream(f->stream) : NULL;
  if (e) e->attached = false;
  reply_ok(request);
}

static bool valid_id(const char *id) {
  size_t n = id ? strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") : 0;
  return n > 0 && n <= WIRE_EXEC_ID_BYTES && id[n] == 0;
}

static bool add_rlimit(struct spawn_spec *spec, const struct tlv *t) {
  if (t->length != 24 || spec->rlimit_count == SPAWN_RLIMITS) return false;
  spec->rlimits[spec->rlimit_count].resource = (int)get32(t->value);
  spec->rlimits[spec->rlimit_count].limit = (struct rlimit){.rlim_cur = get64(t->value + 8), .rlim_max = get64(t->value + 16)};
  spec->rlimit_count++;
  return true;
}

/* The lists have room for one entry per field. */
static bool read_spec(uint8_t *payload, uint32_t length, struct spawn_spec *spec) {
  struct tlv t;
  const uint8_t *end = payload + length;
  size_t args = 0, envs = 0;
  uint32_t number = 0;
  int more;
  while ((more = tlv_next(&payload, end, &t)) > 0) {
    bool ok = true;
    switch (t.tag) {
      case TAG_EXEC_ID: ok = (spec->id = tlv_string(&t)); break;
      case TAG_ARG: ok = (spec->argv[args++] = tlv_string(&t)); break;
      case TAG_ENV: ok = (spec->env[envs++] = tlv_string(&t)); break;
      case TAG_CWD: ok = t.length == 0 || (spec->cwd = tlv_string(&t)); break;
      case TAG_USER: ok = (spec->user = tlv_string(&t)); break;
      case TAG_STDIN: ok = tlv_u32(&t, &number); spec->has_stdin = number != 0; break;
      case TAG_OVERFLOW: ok = tlv_u32(&t, &number); spec->drop = number == OVERFLOW_DROP; break;
      case TAG_UMASK: ok = tlv_u32(&t, &number); spec->has_umask = true; spec->umask = number & 0777; break;
      case TAG_RLIMIT: ok = add_rlimit(spec, &t); break;
      case TAG_TTY:
        ok = spec->tty = t.length == 4;
        if (ok) spec->rows = get16(t.value), spec->cols = get16(t.value + 2);
        break;
      default: break;
    }
    if (!ok) return false;
  }
  return more == 0 && args > 0 && valid_id(spec->id);
}

static void count_fields(uint8_t *payload, uint32_t length, size_t *args, size_t *envs) {
  struct tlv t;
  const uint8_t *end = payload + length;
  while (tlv_next(&payload, end, &t) > 0) {
    *args += t.tag == TAG_ARG;
    *envs += t.tag == TAG_ENV;
  }
}

static void exec(uint32_t request, uint8_t *payload, uint32_t length) {
  size_t args = 1, envs = 1;
  count_fields(payload, length, &args, &envs);
  struct spawn_spec spec = {.argv = calloc(args, sizeof(char *)), .env = calloc(envs, sizeof(char *)), .cwd = "/", .user = ""};
  if (!spec.argv || !spec.env) reply_error(request, ERROR_LIMIT, ENOMEM, "out of memory");
  else if (!read_spec(payload, length, &spec)) invalid(request, "the command cannot be read");
  else exec_start(request, &spec);
  free(spec.argv);
  free(spec.env);
}

static void only_of_init(void (*run)(uint32_t, uint8_t *, uint32_t), uint32_t request, uint8_t *payload, uint32_t length) {
  if (run) run(request, payload, length);
  else reply_error(request, ERROR_UNSUPPORTED, 0, "this is no init");
}

void request_run(uint16_t op, uint32_t request, uint8_t *payload, uint32_t length) {
  struct fields f = {0};
  bool is_large = op == OP_SETUP || op == OP_PREPARE || op == OP_REHEARSE || op == OP_EXEC;
  if ((op == OP_EXEC || op == OP_DIAL) && !agent.ready && !agent.rehearsed) {
    reply_error(request, ERROR_NOT_READY, 0, "no SETUP yet");
    return;
  }
  if (!is_large && !read_fields(payload, length, &f)) {
    invalid(request, "the request cannot be read");
    return;
  }
  switch (op) {
    case OP_SETUP: agent.setup(&agent, request, payload, length); return;
    case OP_PREPARE: only_of_init(agent.prepare, request, payload, length); return;
    case OP_REHEARSE: only_of_init(agent.rehearse, request, payload, length); return;
    case OP_EXEC: exec(request, payload, length); return;
    case OP_LIST: list(request); return;
    case OP_PING: reply_ok(request); return;
    case OP_SYNC: sync_begin(request); return;
    case OP_POWEROFF: power_begin(request, f.has_number ? f.number : 0); return;
    case OP_STATS: stats(request); return;
    case OP_CLOCK: set_clock(request, &f); return;
    case OP_DETACH: detach(request, &f); return;
    case OP_DIAL: dial_start(request, f.stream, f.protocol, f.port); return;
    case OP_ATTACH:
    case OP_FORGET:
    case OP_SIGNAL:
    case OP_RESIZE: on_exec(op, request, &f); return;
    default: reply_error(request, ERROR_UNSUPPORTED, 0, "unknown op %u", op);
  }
}
