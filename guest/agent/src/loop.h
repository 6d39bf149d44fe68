/* epoll with callbacks. One thread; nothing here blocks but loop_wait. */
#ifndef KILN_LOOP_H
#define KILN_LOOP_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

/* One descriptor that is waited for; embedded in its owner. */
struct watch {
  int fd;              /* -1: none */
  uint32_t interest;   /* epoll events waited for now; 0: not in the set */
  void (*ready)(struct watch *w, uint32_t events);
};

int loop_open(void);
/* Changes what `w` waits for; 0 takes it out, so that a hang-up cannot spin. */
void loop_set(int loop, struct watch *w, uint32_t interest);
/* Takes it out and closes its descriptor; safe twice, and before an event of the same batch. */
void loop_close_watch(int loop, struct watch *w);
/* Waits up to timeout_ms (-1: for ever) and runs the callbacks of one batch. */
void loop_wait(int loop, int timeout_ms);
/* CLOCK_MONOTONIC in milliseconds. */
int64_t loop_now_ms(void);
#endif
