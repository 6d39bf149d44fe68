/* sync and power off: requests that take time and must not hold up anything else. */
#include "agent.h"
#include <errno.h>
#include <signal.h>
#include <unistd.h>

enum { KILL_MS = 5000, FLUSH_MS = 500 };

void sync_begin(uint32_t request) {
  struct job *job = agent.jobs;
  while (job < agent.jobs + JOBS && job->pid) job++;
  pid_t pid = job == agent.jobs + JOBS ? -1 : fork();
  if (pid == 0) {
    sync();
    _exit(0);
  }
  if (pid < 0) reply_error(request, ERROR_LIMIT, EAGAIN, "too many syncs at once");
  else *job = (struct job){.pid = pid, .request = request, .generation = agent.session.generation};
}

static void enter(enum power_phase phase, int64_t wait_ms) {
  agent.power.phase = phase;
  agent.power.deadline_ms = loop_now_ms() + wait_ms;
}

/* A second POWEROFF while one is under way takes over the answer. */
void power_begin(uint32_t request, uint32_t grace_ms) {
  agent.power.request = request;
  agent.power.generation = agent.session.generation;
  if (agent.power.phase != POWER_ON) return;
  agent.power.bye = false;
  enter(POWER_TERM, grace_ms);
  agent.signal_all(SIGTERM);
  agent.signal_all(SIGCONT);
}

static bool past_deadline(void) { return loop_now_ms() >= agent.power.deadline_ms; }

void power_tick(void) {
  struct power *p = &agent.power;
  if (p->phase == POWER_TERM && (children_gone() || past_deadline())) {
    agent.signal_all(SIGKILL);
    enter(POWER_KILL, KILL_MS);
  }
  if (p->phase == POWER_KILL && (children_gone() || past_deadline())) {
    agent.power_off(&agent); /* makes the disks safe */
    if (p->generation == agent.session.generation) reply_ok(p->request);
    enter(POWER_FLUSH, FLUSH_MS);
  }
}

int power_timeout_ms(void) {
  if (agent.power.phase == POWER_ON) return -1;
  int64_t left = agent.power.deadline_ms - loop_now_ms();
  return left < 0 ? 0 : (int)left;
}

bool power_over(void) {
  struct power *p = &agent.power;
  bool host_gone = agent.channel.down || agent.channel.watch.fd < 0;
  return p->phase == POWER_FLUSH && (p->bye || past_deadline() || host_gone);
}
