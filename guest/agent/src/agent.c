#include "agent.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { FILES = 8192 };

struct agent agent;

void agent_say(const char *format, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, format);
  int n = snprintf(text, sizeof text, "kiln-agent: ");
  n += vsnprintf(text + n, sizeof text - (size_t)n - 1, format, arguments);
  va_end(arguments);
  if (n > (int)sizeof text - 2) n = (int)sizeof text - 2;
  text[n++] = '\n';
  if (write(2, text, (size_t)n) < 0) return;
}

/* Four descriptors a command, and a few: more than a kernel gives its first process. */
static void raise_file_limit(void) {
  struct rlimit files = {.rlim_cur = FILES, .rlim_max = FILES};
  setrlimit(RLIMIT_NOFILE, &files);
}

/* The libc maps memory for the first block of a size and unmaps it with the last; under TCG either is 10 ms of a guest that was
   just restored. One block of each size stays. */
static void keep_memory_mapped(void) {
  enum { SMALLEST = 8, LARGEST = 16 * 1024, STEP = 16 };
  static void **kept;
  for (size_t size = SMALLEST; size <= LARGEST; size += STEP + size / 8) {
    void **block = calloc(1, size);
    if (!block) return;
    *block = kept;
    kept = block;
  }
}

void agent_open(int initramfs) {
  keep_memory_mapped();
  raise_file_limit();
  agent.initramfs = initramfs;
  agent.loop = loop_open();
  if (!agent.connect) agent.connect = connect;
  agent.channel.watch.fd = agent.channel.listener.fd = -1;
  children_open();
}

static int sooner(int a, int b) { return a < 0 ? b : b < 0 || a < b ? a : b; }

void agent_run(void) {
  for (;;) {
    channel_pump();
    exec_tick();
    power_tick();
    channel_pump();
    int timeout = sooner(channel_timeout_ms(), sooner(exec_timeout_ms(), power_timeout_ms()));
    if (power_over()) return;
    loop_wait(agent.loop, timeout);
  }
}
