/* The agent's state: one of it, one thread. */
#ifndef KILN_AGENT_H
#define KILN_AGENT_H
#include "exec.h"
#include "frame.h"
#include "loop.h"
#include <sys/socket.h>
#include <time.h>

struct agent;

/* The byte stream to the host: one virtio port that stays open, or connections accepted from a listener. */
struct channel {
  struct watch watch;    /* the port or the connection; edge-triggered */
  struct watch listener; /* fd -1 for a port */
  bool is_port;
  bool readable, writable; /* since the last edge */
  bool down;               /* the host has hung up */
  bool stalled;            /* frames wait in the reader until answers have gone */
  bool drained;            /* there was nothing more to write */
  bool execs_first;        /* whose turn it was */
  struct frame_reader reader;
  struct buffer out;     /* frames on their way; bounded by the pump */
  struct buffer control; /* replies and window updates, sent before any output */
};

/* One conversation between two HELLOs. */
struct session {
  bool open;
  uint8_t nonce[WIRE_NONCE_BYTES];
  uint32_t generation; /* of answers that are still owed */
  uint32_t epoch, sessions;
  bool has_epoch;
  struct buffer request; /* parts of a split one */
  uint32_t request_stream;
  bool request_partial;
};

enum power_phase { POWER_ON, POWER_TERM, POWER_KILL, POWER_FLUSH };

struct power {
  enum power_phase phase;
  int64_t deadline_ms;
  uint32_t request, generation;
  bool bye;
};

enum { JOBS = 16 };

/* A child that works for a request. */
struct job {
  int pid; /* 0: free */
  uint32_t request, generation;
};

struct agent {
  int loop;
  struct channel channel;
  struct session session;
  struct execs execs;
  struct power power;
  struct job jobs[JOBS];
  struct watch children; /* signalfd of SIGCHLD */
  bool ready;            /* SETUP was done in this epoch */
  bool mounted;          /* SETUP was done in some epoch */
  bool rehearsed;        /* REHEARSE was done: a first command may be rehearsed too */
  bool has_module_files; /* PREPARE has mounted their disk in the first root */
  bool cgroups;
  int initramfs;         /* directory descriptor of the first root, -1 in tests */
  /* What differs between PID 1 and the test build. */
  /* NULL: not known here */
  void (*prepare)(uint32_t request, uint8_t *payload, uint32_t length);
  void (*rehearse)(uint32_t request, uint8_t *payload, uint32_t length);
  void (*setup)(struct agent *a, uint32_t request, uint8_t *payload, uint32_t length);
  /* Makes the disks safe; the machine goes down once the host knows. */
  void (*power_off)(struct agent *a);
  void (*signal_all)(int number);
  /* Sets the clock; 0 or an errno. NULL: it is not ours to set. */
  int (*set_clock)(const struct timespec *now);
  /* connect(2); the fuzz target leaves its machine alone. */
  int (*connect)(int fd, const struct sockaddr *address, socklen_t length);
  /* Whether a connection may be the host's; NULL: any may. */
  bool (*accepts)(int fd);
};

extern struct agent agent;

/* main's parts */
void agent_open(int initramfs);
/* Serves until a POWEROFF is done. */
void agent_run(void);
void agent_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* channel.c */
void channel_open_port(int fd);
void channel_open_listener(int fd);
void channel_pump(void);
int channel_timeout_ms(void);
/* Drops what waits to be sent. */
void channel_forget(void);
bool channel_flushed(void);

/* session.c */
void session_frame(struct frame *f);
void session_reset(void);

/* requests.c */
void request_run(uint16_t op, uint32_t request, uint8_t *payload, uint32_t length);

/* reply.c */
void reply(uint32_t request, uint16_t error, struct buffer *payload);
void reply_ok(uint32_t request);
/* With MESSAGE and, unless 0, ERRNO. */
void reply_error(uint32_t request, uint16_t error, int number, const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Makes the session lost: the host broke a rule. */
void session_violated(void);

/* power.c */
void power_begin(uint32_t request, uint32_t grace_ms);
void power_tick(void);
int power_timeout_ms(void);
/* The host knows, or has had its time. */
bool power_over(void);
void sync_begin(uint32_t request);

/* children.c */
void children_open(void);
/* Whether no process is left to wait for. */
bool children_gone(void);
#endif
