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

/* Each is made once, and its descriptors stay open: a walk of the path costs as much as the rest. */
static struct {
  bool made, taken;
  int directory, events, memory;
  unsigned long oom_kills;
} groups[WIRE_EXECS];

static void path_of(int cgroup, const char *file, char path[PATH_BYTES]) { snprintf(path, PATH_BYTES, CGROUPS "/kiln.%d%s", cgroup, file); }

/* The number behind `name` in one of a cgroup's files, which stay open; 0 where there is none. */
static unsigned long value_of(int file, const char *name) {
  char text[512];
  ssize_t n = file < 0 ? -1 : pread(file, text, sizeof text - 1, 0);
  text[n > 0 ? n : 0] = 0;
  const char *found = strstr(text, name);
  return found ? strtoul(found + strlen(name), NULL, 10) : 0;
}

static int open_in(int cgroup, const char *file, int flags) {
  char path[PATH_BYTES];
  path_of(cgroup, file, path);
  return open(path, flags | O_CLOEXEC);
}

static bool make(int i) {
  char path[PATH_BYTES];
  path_of(i, "", path);
  if (mkdir(path, 0755) < 0) return false;
  groups[i].directory = open_in(i, "", O_PATH | O_DIRECTORY);
  groups[i].events = open_in(i, "/cgroup.events", O_RDONLY);
  groups[i].memory = open_in(i, "/memory.events", O_RDONLY);
  groups[i].made = true;
  return true;
}

int cgroup_mount_at(const char *path) {
  return mount("cgroup2", path, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, "nsdelegate") < 0 ? errno : 0;
}

int cgroup_mount(void) {
  static bool enabled;
  int error = cgroup_mount_at(CGROUPS);
  if (error) return error;
  if (enabled) return 0;
  enabled = true;
  char controllers[512], *rest = controllers;
  if (file_read(CGROUPS "/cgroup.controllers", controllers, sizeof controllers) < 0) return 0;
  for (char *name; (name = strsep(&rest, " \n"));) {
    char enable[64];
    int n = snprintf(enable, sizeof enable, "+%s", name);
    if (*name) file_write(CGROUPS "/cgroup.subtree_control", enable, (size_t)n);
  }
  return 0;
}

int cgroup_prepare(void) {
  enum { READY = 2 };
  int error = cgroup_mount();
  for (int i = 0; !error && i < READY; i++) make(i);
  return error;
}

/* One that a process which outlived its command is still in is passed over. */
int cgroup_take(void) {
  for (int i = 0; i < (int)WIRE_EXECS; i++) {
    if (groups[i].taken || (groups[i].made ? value_of(groups[i].events, "populated ") != 0 : !make(i))) continue;
    groups[i].taken = true;
    return i;
  }
  return -1;
}

void cgroup_give_back(int cgroup) {
  if (cgroup >= 0) groups[cgroup].taken = false;
}

bool cgroup_had_oom_kill(int cgroup) {
  if (cgroup < 0) return false;
  unsigned long before = groups[cgroup].oom_kills;
  groups[cgroup].oom_kills = value_of(groups[cgroup].memory, "oom_kill ");
  return groups[cgroup].oom_kills > before;
}

/* linux/sched.h, which musl's headers lack */
#define CLONE_INTO_CGROUP_FLAG 0x200000000ull
struct clone_arguments {
  uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

pid_t cgroup_fork(int cgroup) {
  int directory = cgroup < 0 ? -1 : groups[cgroup].directory;
  struct clone_arguments arguments = {.flags = CLONE_INTO_CGROUP_FLAG, .exit_signal = SIGCHLD, .cgroup = (uint64_t)directory};
  long pid = directory < 0 ? -1 : syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid < 0) pid = fork();
  return (pid_t)pid;
}
