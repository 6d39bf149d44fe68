/* Commands: started once per id, kept until FORGET, each output stream in a ring of its own. */
#ifndef KILN_EXEC_H
#define KILN_EXEC_H
#include "frame.h"
#include "loop.h"
#include "ring.h"
#include "spawn.h"
#include <sys/types.h>

struct exec;

struct output {
  struct watch watch;
  struct exec *exec;
  struct ring ring;
  uint64_t sent, acked;
  uint64_t drain_left; /* of a pipe whose command has ended: what was in it then */
  bool ended;          /* nothing more will be read */
  bool at_eof;
};

struct input {
  struct watch watch;
  struct exec *exec;
  struct ring ring; /* end: received; start: consumed */
  bool eof_received, closed, window_due;
};

enum { WAITERS = 8 };

struct exec {
  struct exec *next;
  char id[WIRE_EXEC_ID_BYTES + 1];
  uint32_t state;
  pid_t pid;
  int cgroup; /* -1: none, or given back */
  int exit_code, signal;
  bool oom_killed, tty, has_stdin, drop, reaped;
  int64_t tty_deadline_ms; /* of a terminal: reading ends if its command has, else begins again; 0: none */
  struct output out[2];
  struct input in;
  struct watch start; /* the pipe on which the child reports that it could not execve */
  uint8_t start_report[SPAWN_REPORT_BYTES];
  size_t start_len;
  struct { uint32_t request, generation; } waiters[WAITERS]; /* EXECs to answer once it is started */
  int waiter_count;
  bool attached, exit_sent;
  uint32_t stream;
};

enum { SINKS = 64 };

/* Pipes that outlive their command because a process it left still writes: read and thrown away. */
struct sink {
  struct watch watch;
};

struct execs {
  struct exec *first;
  struct exec *turn; /* whose output goes next */
  struct exec *forgotten; /* freed once no event of this batch can name them */
  int count;
  struct sink sinks[SINKS];
};

struct exec *exec_find(const char *id);
struct exec *exec_of_stream(uint32_t stream);
/* Answers `request` when it is started or has failed. Frees nothing of `spec`. */
void exec_start(uint32_t request, const struct spawn_spec *spec);
/* False while it runs. */
bool exec_forget(struct exec *e);
void exec_reaped(pid_t pid, int status);
void exec_attach(struct exec *e, uint32_t stream);
void exec_detach_all(void);
void exec_acknowledge(struct exec *e, uint16_t stream, uint64_t offset);
/* False where the host broke a rule. */
bool exec_stdin(struct exec *e, const struct frame *f);
void exec_info(const struct exec *e, struct buffer *out);
/* Appends output, window and exit frames, in turns, while `out` has less than `limit` bytes. */
void exec_fill(struct buffer *out, size_t limit);
void exec_tick(void);
int exec_timeout_ms(void);

/* exec_io.c */
void output_open(struct exec *e, int index, int fd);
void output_resume(struct output *o);
void output_leader_ended(struct output *o, bool tty);
void output_release(struct output *o);
/* Reads no more; what it read stays. */
void output_abandon(struct output *o);
/* Lets go of everything. */
void output_close(struct output *o);
void input_open(struct exec *e, int fd);
void input_flush(struct input *in);
void input_close(struct input *in);
#endif
