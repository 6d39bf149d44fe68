/* Kernel modules from the initramfs: flat files /modules/NAME.ko. Their order is the caller's. */
#include "setup.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MODULE_PATH = 160 };

/* Built in, or loaded. */
static bool is_there(const char *name) {
  char path[MODULE_PATH];
  struct stat s;
  snprintf(path, sizeof path, "/sys/module/%s", name);
  return stat(path, &s) == 0;
}

int module_load(const char *name) {
  char path[MODULE_PATH];
  if (snprintf(path, sizeof path, "/modules/%s.ko", name) >= (int)sizeof path) return ENAMETOOLONG;
  if (is_there(name)) return 0;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  int error = syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST ? errno : 0;
  close(fd);
  return error;
}

static int load_all(struct setup *s, const char *const *names, int count) {
  for (int i = 0; i < count; i++) {
    int error = module_load(names[i]);
    if (error) return setup_fail(s, error, "the module %s cannot be loaded", names[i]);
  }
  return 0;
}

int setup_modules(struct setup *s) {
  int error = load_all(s, s->modules, s->module_count);
  return error ? error : load_all(s, s->network_modules, s->network_module_count);
}
