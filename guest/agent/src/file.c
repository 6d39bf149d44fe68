#include "file.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

ssize_t file_read(const char *path, char *text, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  size_t len = 0;
  ssize_t n = 0;
  while (len < size - 1 && (n = read(fd, text + len, size - 1 - len)) > 0) len += (size_t)n;
  int error = errno;
  close(fd);
  errno = error;
  text[len] = 0;
  return n < 0 ? -1 : (ssize_t)len;
}

static int write_to(int fd, const void *bytes, size_t n) {
  if (fd < 0) return errno;
  size_t done = 0;
  int error = 0;
  while (done < n && !error) {
    ssize_t written = write(fd, (const char *)bytes + done, n - done);
    if (written >= 0) done += (size_t)written;
    else if (errno != EINTR) error = errno;
  }
  close(fd);
  return error;
}

int file_write(const char *path, const void *bytes, size_t n) { return write_to(open(path, O_WRONLY | O_CLOEXEC), bytes, n); }

int file_create(const char *path, const void *bytes, size_t n, mode_t mode) {
  return write_to(open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode), bytes, n);
}

int make_directories(const char *path, mode_t mode) {
  char part[PATH_MAX];
  size_t len = strlen(path);
  if (len == 0 || len >= sizeof part) return ENAMETOOLONG;
  memcpy(part, path, len + 1);
  for (size_t i = 1; i <= len; i++) {
    if (part[i] != '/' && part[i] != 0) continue;
    char kept = part[i];
    part[i] = 0;
    if (mkdir(part, mode) < 0 && errno != EEXIST && errno != EROFS) return errno;
    part[i] = kept;
  }
  struct stat s;
  if (stat(path, &s) < 0) return errno;
  return S_ISDIR(s.st_mode) ? 0 : ENOTDIR;
}
