/* Kernel modules from the initramfs: flat files /modules/NAME.ko. Their order is the caller's. */
#include "setup.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MODULE_PATH = 160 };

static bool is_built_in(const char *name) {
  char path[MODULE_PATH];
  struct stat s;
  snprintf(path, sizeof path, "/sys/module/%s", name);
  return stat(path, &s) == 0;
}

int module_load(const char *name) {
  char path[MODULE_PATH];
  if (snprintf(path, sizeof path, "/modules/%s.ko", name) >= (int)sizeof path) return ENAMETOOLONG;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return is_built_in(name) ? 0 : errno;
  int error = syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST ? errno : 0;
  close(fd);
  return error;
}

int setup_modules(struct setup *s) {
  for (int i = 0; i < s->module_count; i++) {
    int error = module_load(s->modules[i]);
    if (error) return setup_fail(s, error, "the module %s cannot be loaded", s->modules[i]);
  }
  return 0;
}
