/* The agent without init's duties, for tests on a host: `kiln-agent-test --port FD` or `--listen FD`. SETUP does nothing; POWEROFF exits. */
#include "agent.h"
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

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

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  int fd = atoi(argv[2]);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  agent.setup = setup;
  agent.power_off = power_off;
  agent.signal_all = signal_all;
  agent_open(-1);
  if (strcmp(argv[1], "--listen") == 0) channel_open_listener(fd);
  else channel_open_port(fd);
  agent_run();
  return 0;
}
