/* The agent without init's duties, for tests on a host: `--port FD`, `--listen SOCKET-PATH` or `--vsock any|host` (whose connections it takes).
 * SETUP does nothing; POWEROFF exits. `--relay -` is no agent: it joins its stdin and stdout to the vsock listener of this machine. */
#include "agent.h"
#include "transport.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { CID_LOCAL = 1, DIALS = 300, DIAL_US = 10000 };

static void setup(struct agent *a, uint32_t request, uint8_t *payload, uint32_t length) {
  (void)payload;
  (void)length;
  a->ready = true;
  reply_ok(request);
}

static void power_off(struct agent *a) { (void)a; }

/* Only what the agent started: the test shares its machine. */
static void signal_all(int number) {
  for (struct exec *e = agent.execs.first; e; e = e->next) {
    if (!e->reaped) kill(-e->pid, number);
  }
}

static int listen_at(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (snprintf(address.sun_path, sizeof address.sun_path, "%s", path) >= (int)sizeof address.sun_path) return -1;
  return fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 8) == 0 ? fd : -1;
}

/* The listener may just be starting. */
static int dial(void) {
  for (int i = 0; i < DIALS; i++) {
    int fd = transport_dial_vsock(CID_LOCAL);
    if (fd >= 0) return fd;
    usleep(DIAL_US);
  }
  return -1;
}

/* Copies until either side ends. */
static int relay(int peer) {
  struct pollfd sides[] = {{.fd = 0, .events = POLLIN}, {.fd = peer, .events = POLLIN}};
  char bytes[4096];
  while (poll(sides, 2, -1) > 0) {
    for (int i = 0; i < 2; i++) {
      if (!sides[i].revents) continue;
      ssize_t n = read(sides[i].fd, bytes, sizeof bytes);
      if (n <= 0 || write(i == 0 ? peer : 1, bytes, (size_t)n) != n) return 0;
    }
  }
  return 1;
}

static int inherit(int fd) {
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  return fd;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  if (strcmp(argv[1], "--relay") == 0) return relay(dial());
  bool is_vsock = strcmp(argv[1], "--vsock") == 0, listens = is_vsock || strcmp(argv[1], "--listen") == 0;
  int fd = is_vsock ? transport_open_vsock() : listens ? listen_at(argv[2]) : inherit(atoi(argv[2]));
  if (fd < 0) return 2;
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  agent.setup = setup;
  agent.power_off = power_off;
  agent.signal_all = signal_all;
  if (is_vsock && strcmp(argv[2], "host") == 0) agent.accepts = transport_is_host;
  agent_open(-1);
  if (listens) channel_open_listener(fd);
  else channel_open_port(fd);
  agent_run();
  return 0;
}
