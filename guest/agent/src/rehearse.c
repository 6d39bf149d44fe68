/* REHEARSE: a SETUP for nothing, on disks of its own, in a child whose mounts and names end with it. The VMM has then translated,
   and the kernel has met, all that the real one needs: a pool does it before anybody waits. */
#include "file.h"
#include "setup.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROGRAM "/program"

/* What the start of any program asks of the kernel, for nothing. */
int rehearse_command(void) {
  static char page[3 * 4096];
  char text[64];
  struct rlimit limit;
  long brk = syscall(SYS_brk, 0);
  syscall(SYS_brk, brk + (long)sizeof page);
  syscall(SYS_prlimit64, 0, RLIMIT_STACK, NULL, &limit);
  syscall(SYS_getrandom, text, sizeof text, 0);
  if (readlink("/proc/self/exe", text, sizeof text) < 0) text[0] = 0;
  uintptr_t inside = ((uintptr_t)page + 4095) & ~(uintptr_t)4095;
  mprotect((void *)inside, 4096, PROT_READ);
  prctl(PR_GET_DUMPABLE);
  struct stat s;
  int fd = open("/etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) close(fd);
  stat(PROGRAM, &s);
  return write(1, "\n", 1) != 1;
}

/* As an image has one: this program, on the disk, below the overlay, and not in memory. */
static int put_program(void) {
  int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), to = open(PROGRAM, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
  struct stat s;
  bool put = from >= 0 && to >= 0 && fstat(from, &s) == 0 && sendfile(to, from, NULL, (size_t)s.st_size) == s.st_size && fsync(to) == 0;
  int error = put ? posix_fadvise(to, 0, 0, POSIX_FADV_DONTNEED) : errno;
  if (from >= 0) close(from);
  if (to >= 0) close(to);
  return error;
}

static int await_child(pid_t child) {
  int status;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return errno;
  return WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
}

/* The first program of an image is read from its disk page by page; the commands after it run from memory that is there. */
static int run_program(void) {
  int error = put_program();
  if (error) return error;
  pid_t child = fork();
  if (child < 0) return errno;
  if (child > 0) return await_child(child);
  char *const arguments[] = {PROGRAM, NULL}, *const environment[] = {NULL};
  execve(PROGRAM, arguments, environment);
  _exit(errno);
}

static int run_steps(struct setup *s) {
  static int (*const rehearsed[])(struct setup *) = {setup_entropy, setup_root, setup_writable, setup_overlay, setup_switch,
                                                     setup_kernel_files, setup_cgroups, setup_module_files, setup_identity, setup_network};
  if (unshare(CLONE_NEWNS | CLONE_NEWUTS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) return errno;
  agent.initramfs = open("/", O_DIRECTORY | O_RDONLY | O_CLOEXEC); /* as these mounts have it */
  for (size_t i = 0; i < sizeof rehearsed / sizeof *rehearsed; i++) {
    int error = rehearsed[i](s);
    if (error) {
      agent_say("the rehearsal failed: %s", s->message);
      return error;
    }
  }
  int error = run_program();
  if (error) agent_say("the rehearsed program ended with %d", error);
  return error;
}

static int rehearse_in_child(struct setup *s) {
  pid_t child = fork();
  if (child < 0) return errno;
  if (child == 0) _exit(run_steps(s));
  return await_child(child);
}

void rehearse_run(uint32_t request, uint8_t *payload, uint32_t length) {
  struct setup s = {0};
  if (agent.mounted || !setup_read(payload, length, &s) || !s.rehearsed_slots) {
    reply_error(request, ERROR_INVALID, 0, "the rehearsal cannot be read");
    return;
  }
  int first = (int)s.rehearsed_slots >> 8, second = (int)s.rehearsed_slots & 0xff;
  int error = virtio_bind_at(VIRTIO_BLOCK, first) && virtio_bind_at(VIRTIO_BLOCK, second) ? 0 : ENODEV;
  if (!error) error = disk_await(&s, s.root_serial, s.root);
  if (!error) error = disk_await(&s, s.writable_serial, s.writable);
  if (!error) error = rehearse_in_child(&s);
  virtio_unbind_at(VIRTIO_BLOCK, first);
  virtio_unbind_at(VIRTIO_BLOCK, second);
  agent.rehearsed = !error;
  if (error) reply_error(request, ERROR_FAILED, error, "rehearsal: %.150s", s.message);
  else reply_ok(request);
}
