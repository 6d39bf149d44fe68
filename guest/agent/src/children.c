/* Every child that ends: commands, syncs, orphans. */
#include "agent.h"
#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

static void job_ended(pid_t pid) {
  for (struct job *job = agent.jobs; job < agent.jobs + JOBS; job++) {
    if (job->pid != pid) continue;
    job->pid = 0;
    if (job->generation == agent.session.generation) reply_ok(job->request);
  }
}

static void on_children(struct watch *w, uint32_t events) {
  (void)events;
  struct signalfd_siginfo info;
  while (read(w->fd, &info, sizeof info) > 0) continue;
  int status;
  pid_t pid;
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
    job_ended(pid);
    exec_reaped(pid, status);
  }
}

void children_open(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigprocmask(SIG_BLOCK, &set, NULL);
  for (int i = 1; i < NSIG; i++) { /* commands must not inherit what the one who started the agent ignored */
    struct sigaction now;
    if (sigaction(i, NULL, &now) == 0 && now.sa_handler == SIG_IGN) signal(i, SIG_DFL);
  }
  signal(SIGPIPE, SIG_IGN);
  agent.children = (struct watch){.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC), .ready = on_children};
  loop_set(agent.loop, &agent.children, EPOLLIN);
}

bool children_gone(void) {
  siginfo_t info;
  return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
}
