/* PID 1 of the initramfs: only what the channel to the host needs, then serve. Everything else waits for SETUP. */
#include "file.h"
#include "setup.h"
#include "transport.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BOOT_LIST_BYTES = 4096, PORT_POLL_US = 500, PORT_FIRST_MS = 1000 };

static void mount_first(void) {
  mkdir("/proc", 0755);
  mkdir("/sys", 0755);
  mkdir("/dev", 0755);
  mount("proc", "/proc", "proc", 0, NULL);
  mount("sysfs", "/sys", "sysfs", 0, NULL);
  mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
  make_directories("/disks/identity", 0755);
  mount("identity", "/disks/identity", "tmpfs", 0, "mode=755,size=4m");
}

/* 0, 1 and 2 are taken, whatever the kernel opened: pipes to commands never get their numbers. Words go to the kernel's log. */
static void open_first_files(void) {
  int null = open("/dev/null", O_RDWR);
  int log = open("/dev/kmsg", O_WRONLY);
  dup2(null, 0);
  dup2(null, 1);
  dup2(log < 0 ? null : log, 2);
  if (null > 2) close(null);
  if (log > 2) close(log);
}

static void load_boot_modules(void) {
  char list[BOOT_LIST_BYTES], *rest = list;
  if (file_read("/modules/boot.list", list, sizeof list) < 0) return;
  for (char *name; (name = strsep(&rest, "\n"));) {
    int error = *name ? module_load(name) : 0;
    if (error) agent_say("the module %s cannot be loaded: %s", name, strerror(error));
  }
}

/* Where it is a virtio-mmio device and not yet driven; an initramfs without them is fine. */
static void load_vsock_modules(void) {
  static const char *const names[] = {"virtio_mmio", "vsock", "vmw_vsock_virtio_transport_common", "vmw_vsock_virtio_transport"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) module_load(names[i]);
}

/* The port appears a moment after its driver. Where there is none, the vsock listener is taken. */
static void open_channel(void) {
  int64_t vsock_from = loop_now_ms() + PORT_FIRST_MS;
  bool loaded = false;
  for (;;) {
    int port = transport_open_port();
    if (port >= 0) {
      channel_open_port(port);
      return;
    }
    bool late = loop_now_ms() >= vsock_from;
    if (late && !loaded) load_vsock_modules();
    loaded = late;
    int listener = late ? transport_open_vsock() : -1;
    if (listener >= 0) {
      channel_open_listener(listener);
      return;
    }
    usleep(PORT_POLL_US);
  }
}

static void signal_all(int number) { kill(-1, number); }
static int set_clock(const struct timespec *now) { return clock_settime(CLOCK_REALTIME, now) < 0 ? errno : 0; }

int main(void) {
  if (getpid() != 1) return rehearse_command();
  mount_first();
  open_first_files();
  load_boot_modules();
  agent.setup = setup_run;
  agent.prepare = prepare_run;
  agent.rehearse = rehearse_run;
  agent.power_off = mounts_settle;
  agent.signal_all = signal_all;
  agent.set_clock = set_clock;
  agent.accepts = transport_is_host;
  agent_open(open("/", O_DIRECTORY | O_RDONLY | O_CLOEXEC));
  open_channel();
  virtio_hold();
  agent_run();
  reboot(RB_POWER_OFF);
  for (;;) pause();
}
