/* REHEARSE: a SETUP for nothing, on disks of its own, in a child whose mounts and names end with it. The VMM has then translated,
   and the kernel has met, all that the real one needs: a pool does it before anybody waits. */
#include "file.h"
#include "setup.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

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
  return 0;
}

static int rehearse_in_child(struct setup *s) {
  int status;
  pid_t child = fork();
  if (child < 0) return errno;
  if (child == 0) _exit(run_steps(s));
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return errno;
  return WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
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
