#include "spawn.h"
#include "bytes.h"
#include "cgroup.h"
#include "file.h"
#include "users.h"
#include "wire_constants.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER 0x5441
#endif
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum { STREAM_ENDS = 4, ADDED_ENV = 4, NOFILE_SOFT = 1024, NOFILE_HARD = 524288 };

/* Both sides of a command's streams and of its report. */
struct ends {
  int parent_in, parent_out, parent_err, parent_report;
  int child_in, child_out, child_err, child_report;
};

static void close_all(struct ends *e) {
  int *fds = (int *)e;
  for (size_t i = 0; i < sizeof *e / sizeof(int); i++) {
    if (fds[i] >= 0) close(fds[i]);
  }
}

static bool make_pipe(int *read_end, int *write_end) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) < 0) return false;
  *read_end = fds[0];
  *write_end = fds[1];
  return true;
}

static bool open_terminal(const struct spawn_spec *spec, struct ends *e) {
  struct winsize size = {.ws_row = spec->rows, .ws_col = spec->cols};
  e->parent_out = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (e->parent_out < 0 || grantpt(e->parent_out) < 0 || unlockpt(e->parent_out) < 0) return false;
  ioctl(e->parent_out, TIOCSWINSZ, &size);
  e->child_in = ioctl(e->parent_out, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (e->child_in < 0) return false;
  e->child_out = fcntl(e->child_in, F_DUPFD_CLOEXEC, 3);
  e->child_err = fcntl(e->child_in, F_DUPFD_CLOEXEC, 3);
  if (spec->has_stdin) e->parent_in = fcntl(e->parent_out, F_DUPFD_CLOEXEC, 3);
  return e->child_out >= 0 && e->child_err >= 0 && (!spec->has_stdin || e->parent_in >= 0);
}

static bool open_pipes(const struct spawn_spec *spec, struct ends *e) {
  if (!make_pipe(&e->parent_out, &e->child_out) || !make_pipe(&e->parent_err, &e->child_err)) return false;
  if (spec->has_stdin) return make_pipe(&e->child_in, &e->parent_in);
  e->child_in = open("/dev/null", O_RDONLY | O_CLOEXEC);
  return e->child_in >= 0;
}

static _Noreturn void fail(int report, uint32_t error, int number, const char *format, ...) {
  uint8_t bytes[SPAWN_REPORT_BYTES - 1];
  put32(bytes, error);
  put32(bytes + 4, (uint32_t)number);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf((char *)bytes + 8, sizeof bytes - 8, format, arguments);
  va_end(arguments);
  ssize_t written = write(report, bytes, 8 + strlen((char *)bytes + 8));
  _exit(written < 0 ? 126 : 127);
}

static void take_streams(const struct spawn_spec *spec, const struct ends *e) {
  setsid();
  if (spec->tty) ioctl(e->child_in, TIOCSCTTY, 0);
  if (dup2(e->child_in, 0) < 0 || dup2(e->child_out, 1) < 0 || dup2(e->child_err, 2) < 0) fail(e->child_report, ERROR_FAILED, errno, "dup2");
}

static void reset_signals(void) {
  sigset_t none;
  sigemptyset(&none);
  signal(SIGPIPE, SIG_DFL); /* the only one that the agent ignores: children_open() */
  sigprocmask(SIG_SETMASK, &none, NULL);
}

static void apply_limits(const struct spawn_spec *spec, int report) {
  struct rlimit files = {.rlim_cur = NOFILE_SOFT, .rlim_max = NOFILE_HARD};
  setrlimit(RLIMIT_NOFILE, &files);
  for (int i = 0; i < spec->rlimit_count; i++) {
    if (setrlimit((unsigned)spec->rlimits[i].resource, &spec->rlimits[i].limit) < 0) fail(report, ERROR_FAILED, errno, "rlimit %d", spec->rlimits[i].resource);
  }
}

static void become(const struct user *user, int report) {
  /* /dev/stdout and its like reopen these by name: they must belong to the user */
  for (int fd = 0; user->uid != 0 && fd <= 2; fd++) {
    struct stat s;
    if (fstat(fd, &s) == 0 && (S_ISFIFO(s.st_mode) || isatty(fd)) && fchown(fd, user->uid, (gid_t)-1) < 0) continue;
  }
  uid_t own = geteuid();
  if (own != 0 && own == user->uid) return;
  /* as the agent is in a guest */
  if (own == 0 && user->uid == 0 && user->gid == 0 && getegid() == 0 && user->group_count == 0 && getgroups(0, NULL) == 0) return;
  if (setgroups((size_t)user->group_count, user->groups) < 0 || setgid(user->gid) < 0 || setuid(user->uid) < 0) {
    fail(report, ERROR_FAILED, errno, "cannot become uid %u gid %u", (unsigned)user->uid, (unsigned)user->gid);
  }
}

static const char *env_of(char **env, const char *name) {
  size_t n = strlen(name);
  for (; *env; env++) {
    if (strncmp(*env, name, n) == 0 && (*env)[n] == '=') return *env + n + 1;
  }
  return NULL;
}

/* The caller's environment and what docker adds where it is absent. */
static char **environment(const struct spawn_spec *spec, const struct user *user, int report) {
  static char home[USER_HOME + 8], host[HOST_NAME_MAX + 16] = "HOSTNAME=";
  size_t count = 0;
  while (spec->env[count]) count++;
  char **env = calloc(count + ADDED_ENV + 1, sizeof *env);
  if (!env) fail(report, ERROR_LIMIT, ENOMEM, "out of memory");
  memcpy(env, spec->env, count * sizeof *env);
  snprintf(home, sizeof home, "HOME=%s", user->home);
  if (!env_of(spec->env, "PATH")) env[count++] = "PATH=" DEFAULT_PATH;
  if (!env_of(spec->env, "HOME")) env[count++] = home;
  if (!env_of(spec->env, "HOSTNAME") && gethostname(host + strlen(host), HOST_NAME_MAX) == 0) env[count++] = host;
  if (spec->tty && !env_of(spec->env, "TERM")) env[count++] = "TERM=xterm";
  return env;
}

/* execvp's search, without its fall back to a shell. Returns the errno to report. */
static int execute(char **argv, char **env) {
  const char *path = env_of(env, "PATH");
  char file[PATH_MAX];
  int error = ENOENT;
  if (!*argv[0]) return ENOENT;
  if (strchr(argv[0], '/')) {
    execve(argv[0], argv, env);
    return errno;
  }
  for (const char *at = path ? path : DEFAULT_PATH, *end; at; at = *end ? end + 1 : NULL) {
    end = strchrnul(at, ':');
    int n = snprintf(file, sizeof file, "%.*s%s%s", (int)(end - at), at, end > at ? "/" : "", argv[0]);
    if (n >= (int)sizeof file) continue;
    execve(file, argv, env);
    if (errno != ENOENT && errno != ENOTDIR && errno != EACCES) return errno;
    if (errno == EACCES) error = EACCES;
  }
  return error;
}

static _Noreturn void child(const struct spawn_spec *spec, const struct ends *e) {
  int report = e->child_report;
  struct user user;
  reset_signals();
  take_streams(spec, e);
  umask(022);
  if (!user_find(spec->user, &user)) fail(report, ERROR_USER_UNKNOWN, 0, "no user %s in the image", spec->user);
  int error = make_directories(spec->cwd, 0755);
  if (error || chdir(spec->cwd) < 0) fail(report, ERROR_COMMAND_NOT_EXECUTABLE, error ? error : errno, "cannot enter the directory %s", spec->cwd);
  char **env = environment(spec, &user, report);
  apply_limits(spec, report);
  become(&user, report);
  umask(spec->has_umask ? spec->umask : 022);
  error = execute(spec->argv, env);
  bool absent = error == ENOENT || error == ENOTDIR;
  fail(report, absent ? ERROR_COMMAND_NOT_FOUND : ERROR_COMMAND_NOT_EXECUTABLE, error, "%s", spec->argv[0]);
}

static void set_nonblocking(int fd) {
  if (fd >= 0) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

int spawn(const struct spawn_spec *spec, int cgroup, struct spawned *result) {
  struct ends e = {-1, -1, -1, -1, -1, -1, -1, -1};
  bool opened = (spec->tty ? open_terminal(spec, &e) : open_pipes(spec, &e)) && make_pipe(&e.parent_report, &e.child_report);
  pid_t pid = opened ? cgroup_fork(cgroup) : -1;
  if (pid == 0) child(spec, &e);
  if (pid < 0) {
    int error = errno;
    close_all(&e);
    return error;
  }
  close(e.child_in);
  close(e.child_out);
  close(e.child_err);
  close(e.child_report);
  set_nonblocking(e.parent_in);
  set_nonblocking(e.parent_out);
  set_nonblocking(e.parent_err);
  set_nonblocking(e.parent_report);
  *result = (struct spawned){.pid = pid, .in = e.parent_in, .out = e.parent_out, .err = e.parent_err, .report = e.parent_report};
  return 0;
}
