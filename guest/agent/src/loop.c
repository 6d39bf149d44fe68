#include "loop.h"
#include <errno.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64 };

int loop_open(void) { return epoll_create1(EPOLL_CLOEXEC); }

void loop_set(int loop, struct watch *w, uint32_t interest) {
  if (w->fd < 0 || w->interest == interest) return;
  struct epoll_event event = {.events = interest, .data = {.ptr = w}};
  int op = interest == 0 ? EPOLL_CTL_DEL : w->interest == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
  if (epoll_ctl(loop, op, w->fd, &event) == 0) w->interest = interest;
}

void loop_close_watch(int loop, struct watch *w) {
  if (w->fd < 0) return;
  loop_set(loop, w, 0);
  close(w->fd);
  w->fd = -1;
  w->interest = 0;
}

void loop_wait(int loop, int timeout_ms) {
  struct epoll_event events[BATCH];
  int n = epoll_wait(loop, events, BATCH, timeout_ms);
  for (int i = 0; i < n; i++) {
    struct watch *w = events[i].data.ptr;
    if (w->fd >= 0 && w->interest != 0) w->ready(w, events[i].events);
  }
}

int64_t loop_now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
