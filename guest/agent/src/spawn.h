/* The child's way from fork to execve. */
#ifndef KILN_SPAWN_H
#define KILN_SPAWN_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

enum { SPAWN_RLIMITS = 16, SPAWN_MESSAGE = 248, SPAWN_REPORT_BYTES = 8 + SPAWN_MESSAGE };

struct spawn_spec {
  const char *id;
  char **argv;
  char **env;
  const char *cwd;
  const char *user;
  bool tty;
  uint16_t rows, cols;
  bool has_stdin, drop;
  bool has_umask;
  mode_t umask;
  int rlimit_count;
  struct { int resource; struct rlimit limit; } rlimits[SPAWN_RLIMITS];
};

/* The parent's ends; -1 where there is none. */
struct spawned {
  pid_t pid;
  int in, out, err;
  int report; /* EOF: execve succeeded; else u32 ERROR, u32 errno, text */
};

/* 0 or an errno. The child begins in `cgroup` (-1: the agent's own), leads a session of its own and inherits nothing but its three streams. */
int spawn(const struct spawn_spec *spec, int cgroup, struct spawned *result);
#endif
