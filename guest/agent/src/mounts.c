/* The guest's root: the image's disk read-only, the writable disk over it, and under both a skeleton of mount points. */
#include "cgroup.h"
#include "file.h"
#include "setup.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOWER "/disks/root"
#define WRITABLE "/disks/writable"
#define SKELETON "/disks/skeleton"
#define MODULE_FILES "disks/modules"
#define NEW_ROOT "/newroot"

static int mount_or_fail(struct setup *s, const char *source, const char *target, const char *type, unsigned long flags, const char *data) {
  if (mount(source, target, type, flags, data) == 0) return 0;
  return setup_fail(s, errno, "cannot mount %s on %s", source, target);
}

int setup_root(struct setup *s) {
  make_directories(LOWER, 0755);
  return mount_or_fail(s, s->root, LOWER, "ext4", MS_RDONLY, NULL);
}

int setup_writable(struct setup *s) {
  make_directories(WRITABLE, 0755);
  /* nobody waits for bitmaps that a thread reads ahead; a kernel that has no such thread knows no such option */
  if (mount(s->writable, WRITABLE, "ext4", 0, "no_prefetch_block_bitmaps") < 0) {
    int error = mount_or_fail(s, s->writable, WRITABLE, "ext4", 0, NULL);
    if (error) return error;
  }
  if (mkdir(WRITABLE "/upper", 0755) < 0 && errno != EEXIST) return setup_fail(s, errno, "cannot make the upper directory");
  if (mkdir(WRITABLE "/work", 0700) < 0 && errno != EEXIST) return setup_fail(s, errno, "cannot make the work directory");
  return 0;
}

/* Mount points that an image may lack, in a lowest layer of their own: nothing of them is ever in the writable disk. */
static int make_skeleton(struct setup *s) {
  static const char *const directories[] = {"/proc", "/sys", "/dev", "/run", "/tmp", "/etc"};
  static const char *const files[] = {"/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/etc/machine-id"};
  make_directories(SKELETON, 0755);
  int error = mount_or_fail(s, "skeleton", SKELETON, "tmpfs", 0, "mode=755,size=64k");
  char path[80];
  for (size_t i = 0; !error && i < sizeof directories / sizeof *directories; i++) {
    snprintf(path, sizeof path, SKELETON "%s", directories[i]);
    error = mkdir(path, 0755) < 0 ? errno : 0;
  }
  if (!error) error = chmod(SKELETON "/tmp", 01777) < 0 ? errno : 0;
  for (size_t i = 0; !error && i < sizeof files / sizeof *files; i++) {
    snprintf(path, sizeof path, SKELETON "%s", files[i]);
    error = file_create(path, "", 0, 0644);
  }
  struct stat lib;
  bool merged = lstat(LOWER "/lib", &lib) == 0 && S_ISLNK(lib.st_mode);
  if (!error && s->modules_serial) error = make_directories(merged ? SKELETON "/usr/lib/modules" : SKELETON "/lib/modules", 0755);
  return error && !s->message[0] ? setup_fail(s, error, "cannot make the mount points") : error;
}

/* The merged root looks as the image's own. */
static void copy_root_attributes(void) {
  struct stat s;
  if (stat(LOWER, &s) < 0) return;
  if (chown(WRITABLE "/upper", s.st_uid, s.st_gid) == 0) chmod(WRITABLE "/upper", s.st_mode & 07777);
}

int setup_overlay(struct setup *s) {
  int error = make_skeleton(s);
  if (error) return error;
  copy_root_attributes();
  make_directories(NEW_ROOT, 0755);
  return mount_or_fail(s, "overlay", NEW_ROOT, "overlay", 0, "lowerdir=" LOWER ":" SKELETON ",upperdir=" WRITABLE "/upper,workdir=" WRITABLE "/work");
}

/* Move and chroot, not pivot_root: the first root cannot be left behind otherwise, and a container runtime's own pivot_root works. */
int setup_switch(struct setup *s) {
  if (chdir(NEW_ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0) {
    return setup_fail(s, errno, "cannot make the overlay the root");
  }
  return 0;
}

/* Without opendir, whose memory the libc maps and unmaps. */
static bool is_empty(const char *path) {
  struct dirent64 entries[4];
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), count = 0;
  long bytes = fd < 0 ? 0 : syscall(SYS_getdents64, fd, entries, sizeof entries);
  for (const char *at = (const char *)entries, *end = at + bytes; at < end; at += ((const struct dirent64 *)at)->d_reclen) count++;
  if (fd >= 0) close(fd);
  return count <= 2;
}

int setup_kernel_files(struct setup *s) {
  static const struct { const char *source, *target, *type, *data; unsigned long flags; } mounts[] = {
      {"proc", "/proc", "proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
      {"sysfs", "/sys", "sysfs", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
      {"devtmpfs", "/dev", "devtmpfs", "mode=755", MS_NOSUID},
      {"devpts", "/dev/pts", "devpts", "newinstance,gid=5,mode=620,ptmxmode=666", MS_NOSUID | MS_NOEXEC},
      {"shm", "/dev/shm", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV},
  };
  int error = 0;
  for (size_t i = 0; !error && i < sizeof mounts / sizeof *mounts; i++) {
    if (strncmp(mounts[i].target, "/dev/", 5) == 0) mkdir(mounts[i].target, 0755);
    error = mount_or_fail(s, mounts[i].source, mounts[i].target, mounts[i].type, mounts[i].flags, mounts[i].data);
  }
  if (error) return error;
  mkdir("/dev/mqueue", 01777);
  mount("mqueue", "/dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL); /* a kernel without it is fine */
  static const char *const links[][2] = {{"/proc/self/fd", "/dev/fd"}, {"fd/0", "/dev/stdin"}, {"fd/1", "/dev/stdout"}, {"fd/2", "/dev/stderr"}};
  for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
    if (symlink(links[i][0], links[i][1]) < 0 && errno != EEXIST) return setup_fail(s, errno, "cannot make %s", links[i][1]);
  }
  /* what an image keeps in /run must stay visible, as under docker */
  return is_empty("/run") ? mount_or_fail(s, "run", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755") : 0;
}

int prepare_cgroups(struct setup *s) {
  int error = cgroup_prepare();
  agent.cgroups = !error; /* a rehearsed command has one, too */
  return error ? setup_fail(s, error, "cannot prepare the cgroups") : 0;
}

int setup_cgroups(struct setup *s) {
  int error = cgroup_mount();
  return error ? setup_fail(s, error, "cannot mount the cgroups") : 0;
}

int prepare_module_files(struct setup *s) {
  int error = disk_await(s, s->modules_serial, s->modules_disk);
  make_directories("/" MODULE_FILES, 0755);
  if (!error) error = mount_or_fail(s, s->modules_disk, "/" MODULE_FILES, "ext4", MS_RDONLY, NULL);
  agent.has_module_files = !error;
  return error;
}

static int bind_module_files(struct setup *s) {
  char source[64];
  int fd = openat(agent.initramfs, MODULE_FILES, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return setup_fail(s, errno, "the module files are not there");
  snprintf(source, sizeof source, "/proc/self/fd/%d", fd);
  int error = mount_or_fail(s, source, "/lib/modules", NULL, MS_BIND, NULL);
  close(fd);
  return error;
}

/* An image whose /lib leads elsewhere goes without. */
int setup_module_files(struct setup *s) {
  struct stat found;
  if (!s->modules_serial || stat("/lib/modules", &found) < 0 || !S_ISDIR(found.st_mode)) return 0;
  if (agent.has_module_files) return bind_module_files(s);
  return mount_or_fail(s, s->modules_disk, "/lib/modules", "ext4", MS_RDONLY, NULL);
}

/* Back in the first root, where the disks' own mounts can be named. */
void mounts_settle(struct agent *a) {
  sync();
  if (!a->mounted) return;
  mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL);
  if (fchdir(a->initramfs) < 0 || chroot(".") < 0) return;
  if (mount(NULL, WRITABLE, NULL, MS_REMOUNT | MS_RDONLY, NULL) < 0) agent_say("the writable disk stays mounted: its journal will be replayed");
  sync();
}
