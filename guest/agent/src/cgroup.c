#include "cgroup.h"
#include "file.h"
#include "wire_constants.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CGROUPS "/sys/fs/cgroup"
enum { PATH_BYTES = 160 };

static bool taken[WIRE_EXECS];

static void path_of(int cgroup, const char *file, char path[PATH_BYTES]) { snprintf(path, PATH_BYTES, CGROUPS "/kiln.%d%s", cgroup, file); }

/* The number behind `name` in one of the cgroup's files; 0 where there is none. */
static unsigned long value_of(int cgroup, const char *file, const char *name) {
  char path[PATH_BYTES], text[512];
  path_of(cgroup, file, path);
  if (file_read(path, text, sizeof text) < 0) return 0;
  const char *found = strstr(text, name);
  return found ? strtoul(found + strlen(name), NULL, 10) : 0;
}

int cgroup_mount(void) {
  if (mount("cgroup2", CGROUPS, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, "nsdelegate") < 0) return errno;
  char controllers[512], *rest = controllers;
  if (file_read(CGROUPS "/cgroup.controllers", controllers, sizeof controllers) < 0) return 0;
  for (char *name; (name = strsep(&rest, " \n"));) {
    char enable[64];
    int n = snprintf(enable, sizeof enable, "+%s", name);
    if (*name) file_write(CGROUPS "/cgroup.subtree_control", enable, (size_t)n);
  }
  return 0;
}

/* One that a process which outlived its command is still in is passed over. */
int cgroup_take(void) {
  char path[PATH_BYTES];
  for (int i = 0; i < (int)WIRE_EXECS; i++) {
    path_of(i, "", path);
    if (taken[i] || (mkdir(path, 0755) < 0 && (errno != EEXIST || value_of(i, "/cgroup.events", "populated ")))) continue;
    taken[i] = true;
    return i;
  }
  return -1;
}

void cgroup_give_back(int cgroup) {
  if (cgroup >= 0) taken[cgroup] = false;
}

unsigned long cgroup_oom_kills(int cgroup) { return cgroup < 0 ? 0 : value_of(cgroup, "/memory.events", "oom_kill "); }

/* linux/sched.h, which musl's headers lack */
#define CLONE_INTO_CGROUP_FLAG 0x200000000ull
struct clone_arguments {
  uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

pid_t cgroup_fork(int cgroup) {
  char path[PATH_BYTES];
  path_of(cgroup, "", path);
  int fd = cgroup < 0 ? -1 : open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
  struct clone_arguments arguments = {.flags = CLONE_INTO_CGROUP_FLAG, .exit_signal = SIGCHLD, .cgroup = (uint64_t)fd};
  long pid = fd < 0 ? -1 : syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid < 0) pid = fork();
  if (fd >= 0) close(fd);
  return (pid_t)pid;
}
