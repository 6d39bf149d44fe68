#include "cgroup.h"
#include "file.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define CGROUPS "/sys/fs/cgroup"
enum { PATH_BYTES = 160 };

static void path_of(const char *id, const char *file, char path[PATH_BYTES]) { snprintf(path, PATH_BYTES, CGROUPS "/kiln.%s%s", id, file); }

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

void cgroup_enter(const char *id) {
  char path[PATH_BYTES];
  path_of(id, "", path);
  mkdir(path, 0755);
  path_of(id, "/cgroup.procs", path);
  file_write(path, "0", 1);
}

bool cgroup_oom_killed(const char *id) {
  char path[PATH_BYTES], events[512];
  path_of(id, "/memory.events", path);
  if (file_read(path, events, sizeof events) < 0) return false;
  const char *kills = strstr(events, "oom_kill ");
  return kills && strtoul(kills + strlen("oom_kill "), NULL, 10) > 0;
}

void cgroup_remove(const char *id) {
  char path[PATH_BYTES];
  path_of(id, "", path);
  rmdir(path);
}
