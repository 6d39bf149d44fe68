/* What makes this guest itself: its random numbers, its time, its names. */
#include "file.h"
#include "setup.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* linux/random.h, which musl's headers lack */
#define ADD_ENTROPY _IOW('R', 0x03, int[2])
#define RESEED_CRNG _IO('R', 0x07)

int setup_entropy(struct setup *s) {
  struct { int bits, bytes; uint8_t data[WIRE_ENTROPY_BYTES]; } pool = {.bits = 8 * (int)WIRE_ENTROPY_BYTES, .bytes = (int)WIRE_ENTROPY_BYTES};
  memcpy(pool.data, s->entropy, sizeof pool.data);
  int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return setup_fail(s, errno, "cannot open /dev/urandom");
  int error = ioctl(fd, ADD_ENTROPY, &pool) < 0 || ioctl(fd, RESEED_CRNG) < 0 ? errno : 0;
  close(fd);
  return error ? setup_fail(s, error, "cannot reseed the random numbers") : 0;
}

int setup_clock(struct setup *s) {
  struct timespec now = {.tv_sec = (time_t)(s->clock_ns / 1000000000), .tv_nsec = (long)(s->clock_ns % 1000000000)};
  return clock_settime(CLOCK_REALTIME, &now) < 0 ? setup_fail(s, errno, "cannot set the clock") : 0;
}

/* Where a link leads nowhere, its target is made: it must be a file to be mounted on. */
static void make_target(const char *path) {
  char target[PATH_MAX], at[PATH_MAX];
  ssize_t n = readlink(path, target, sizeof target - 1);
  if (n > 0) {
    target[n] = 0;
    snprintf(at, sizeof at, "%s%.*s", target[0] == '/' ? "" : "/etc/", PATH_MAX - 8, target);
    char *slash = strrchr(at, '/');
    *slash = 0;
    if (*at) make_directories(at, 0755);
  }
  int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (fd >= 0) close(fd);
}

/* A file of the identity's tmpfs appears at `path`. `directory` is that tmpfs, reachable from either root. */
static int bind_file(struct setup *s, int directory, const char *name, const char *path) {
  char source[64];
  int fd = openat(directory, name, O_PATH | O_CLOEXEC);
  if (fd < 0) return setup_fail(s, errno, "cannot open the identity's %s", name);
  snprintf(source, sizeof source, "/proc/self/fd/%d", fd);
  int error = mount(source, path, NULL, MS_BIND, NULL) < 0 ? errno : 0;
  if (error == ENOENT) {
    make_target(path);
    error = mount(source, path, NULL, MS_BIND, NULL) < 0 ? errno : 0;
  }
  close(fd);
  return error ? setup_fail(s, error, "cannot bind %s", path) : 0;
}

static int write_file(int directory, const char *name, const char *text, const char *end) {
  int fd = openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return errno;
  int error = dprintf(fd, "%s%s", text, end) < 0 ? errno : 0;
  close(fd);
  return error;
}

/* Binds of a tmpfs, so that a promoted image never holds them. In a later epoch the files are there and are written anew. */
int setup_identity(struct setup *s) {
  const struct { const char *name, *path, *text, *end; } files[] = {
      {"hosts", "/etc/hosts", s->hosts, ""},
      {"resolv.conf", "/etc/resolv.conf", s->resolv_conf, ""},
      {"hostname", "/etc/hostname", s->hostname, "\n"},
      {"boot-id", "/proc/sys/kernel/random/boot_id", s->boot_id, "\n"},
      {"machine-id", "/etc/machine-id", s->machine_id, "\n"},
  };
  if (sethostname(s->hostname, strlen(s->hostname)) < 0) return setup_fail(s, errno, "cannot set the host name %.64s", s->hostname);
  int first = openat(agent.initramfs, "disks/identity", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
  if (first < 0) return setup_fail(s, errno, "the identity's tmpfs is not there");
  int error = 0;
  for (size_t i = 0; !error && i < sizeof files / sizeof *files; i++) {
    int unwritten = write_file(first, files[i].name, files[i].text, files[i].end);
    error = unwritten ? setup_fail(s, unwritten, "cannot write the identity's %s", files[i].name) : 0;
    if (!error && !agent.mounted) error = bind_file(s, first, files[i].name, files[i].path);
  }
  close(first);
  return error;
}
