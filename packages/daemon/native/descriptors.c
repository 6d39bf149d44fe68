/* What a daemon in JavaScript cannot do with descriptors by itself.
 *
 *   kiln-descriptors memory BYTES
 *     Makes an empty memory file (memfd_create(2)) and says its number in a line. The parent opens it by /proc/PID/fd/N,
 *     fills it and writes a line; then it is sealed against every change (F_ADD_SEALS), which a line confirms. A
 *     private mapping stays possible, also for another user: nobody who holds it can change what the others see.
 *
 *   kiln-descriptors add-fd SOCKET SET:FD...
 *     Hands open descriptors to a QEMU by its monitor at SOCKET (QMP's add-fd with SCM_RIGHTS, unix(7)), each into its set.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#endif
#ifndef MFD_CLOEXEC
#define MFD_CLOEXEC 1u
#define MFD_ALLOW_SEALING 2u
#endif
enum { SEAL_SEAL = 1, SEAL_SHRINK = 2, SEAL_GROW = 4, SEAL_WRITE = 8, REPLY_BYTES = 64 * 1024, MAX_HANDED = 16 };

static int fail(const char *what) {
  fprintf(stderr, "kiln-descriptors: %s: %s\n", what, strerror(errno));
  return 1;
}

/* false: the parent has gone, or has changed its mind. */
static int await_line(void) {
  char byte;
  ssize_t n;
  while ((n = read(0, &byte, 1)) == 1 || (n < 0 && errno == EINTR))
    if (n == 1 && byte == '\n') return 1;
  return 0;
}

static int memory(const char *text) {
  char *end;
  errno = 0;
  unsigned long long bytes = strtoull(text, &end, 10);
  if (errno || *end || bytes == 0) {
    errno = EINVAL;
    return fail("the size");
  }
  int fd = memfd_create("kiln-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return fail("memfd_create");
  if (ftruncate(fd, (off_t)bytes) < 0) return fail("ftruncate");
  if (dprintf(1, "%d\n", fd) < 0) return fail("stdout");
  if (!await_line()) return 1;
  if (fcntl(fd, F_ADD_SEALS, SEAL_SEAL | SEAL_SHRINK | SEAL_GROW | SEAL_WRITE) < 0) return fail("F_ADD_SEALS");
  if (dprintf(1, "sealed\n") < 0) return fail("stdout");
  await_line(); /* until the parent has let go of it */
  return 0;
}

/* Reads lines up to one that is an answer; events come between. */
static int await_return(FILE *monitor, char *line) {
  while (fgets(line, REPLY_BYTES, monitor)) {
    if (strstr(line, "\"event\"")) continue;
    return strstr(line, "\"return\"") != NULL;
  }
  snprintf(line, REPLY_BYTES, "the monitor went away\n");
  return 0;
}

static int send_command(int socket, const char *text, int fd) {
  struct iovec data = {.iov_base = (void *)text, .iov_len = strlen(text)};
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control = {0};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
  if (fd >= 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  return sendmsg(socket, &message, MSG_NOSIGNAL) == (ssize_t)data.iov_len ? 0 : -1;
}

static int add_fd(const char *path, int count, char **handed) {
  static char line[REPLY_BYTES];
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (count > MAX_HANDED || strlen(path) >= sizeof address.sun_path) {
    errno = E2BIG;
    return fail("the arguments");
  }
  strcpy(address.sun_path, path);
  int socket_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket_fd < 0 || connect(socket_fd, (struct sockaddr *)&address, sizeof address) < 0) return fail("connect");
  FILE *monitor = fdopen(socket_fd, "r");
  if (!monitor || !fgets(line, sizeof line, monitor)) return fail("the monitor's greeting");
  if (send_command(socket_fd, "{\"execute\":\"qmp_capabilities\"}\n", -1) < 0) return fail("qmp_capabilities");
  int ok = await_return(monitor, line);
  for (int i = 0; ok && i < count; i++) {
    char text[128];
    int set, fd;
    if (sscanf(handed[i], "%d:%d", &set, &fd) != 2) {
      errno = EINVAL;
      return fail(handed[i]);
    }
    snprintf(text, sizeof text, "{\"execute\":\"add-fd\",\"arguments\":{\"fdset-id\":%d}}\n", set);
    if (send_command(socket_fd, text, fd) < 0) return fail("add-fd");
    ok = await_return(monitor, line);
  }
  if (!ok) fprintf(stderr, "kiln-descriptors: QEMU refused: %s", line);
  return !ok;
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "memory") == 0) return memory(argv[2]);
  if (argc > 3 && strcmp(argv[1], "add-fd") == 0) return add_fd(argv[2], argc - 3, argv + 3);
  fprintf(stderr, "usage: kiln-descriptors memory BYTES | add-fd SOCKET SET:FD...\n");
  return 2;
}
