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
#define PREPARED "prepared"

enum { TARGET_BYTES = 80 };

/* The skeleton and the kernel's file systems have been mounted since before the guest was saved, the latter below PREPARED. */
static bool has_mounts;

static int mount_or_fail(struct setup *s, const char *source, const char *target, const char *type, unsigned long flags, const char *data) {
  if (mount(source, target, type, flags, data) == 0) return 0;
  return setup_fail(s, errno, "cannot mount %s on %s", source, target);
}

/* An attempt says more cheaply than a look whether the disk has its size. */
static int mount_disk(struct setup *s, const char *serial, char device[DEVICE_NAME], const char *target, unsigned long flags, const char *data) {
  if (mount(device, target, "ext4", flags, data) == 0) return 0;
  int error = disk_await_size(s, serial, device);
  return error ? error : mount_or_fail(s, device, target, "ext4", flags, data);
}

int setup_root(struct setup *s) {
  if (!has_mounts) make_directories(LOWER, 0755);
  return mount_disk(s, s->root_serial, s->root, LOWER, MS_RDONLY, NULL);
}

int setup_writable(struct setup *s) {
  if (!has_mounts) make_directories(WRITABLE, 0755);
  /* nobody waits for bitmaps that a thread reads ahead; a kernel that has no such thread knows no such option */
  int error = mount_disk(s, s->writable_serial, s->writable, WRITABLE, 0, "no_prefetch_block_bitmaps");
  if (error) error = mount_or_fail(s, s->writable, WRITABLE, "ext4", 0, NULL);
  if (error) return error;
  /* a disk comes with them, but for one of long ago: a look is cheaper than an attempt */
  struct stat upper, work;
  if (stat(WRITABLE "/upper", &upper) == 0 && stat(WRITABLE "/work", &work) == 0) return 0;
  if (mkdir(WRITABLE "/work", 0700) < 0 && errno != EEXIST) return setup_fail(s, errno, "cannot make the work directory");
  if (mkdir(WRITABLE "/upper", 0755) < 0 && errno != EEXIST) return setup_fail(s, errno, "cannot make the upper directory");
  return 0;
}

/* Mount points that an image may lack, in a lowest layer of their own: nothing of them is ever in the writable disk. */
static int fill_skeleton(const char *skeleton, const char *modules) {
  static const char *const directories[] = {"/proc", "/sys", "/dev", "/run", "/tmp", "/etc"};
  static const char *const files[] = {"/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/etc/machine-id"};
  char path[TARGET_BYTES];
  int error = make_directories(skeleton, 0755);
  for (size_t i = 0; !error && i < sizeof directories / sizeof *directories; i++) {
    snprintf(path, sizeof path, "%s%s", skeleton, directories[i]);
    error = mkdir(path, 0755) < 0 ? errno : 0;
  }
  snprintf(path, sizeof path, "%s/tmp", skeleton);
  if (!error) error = chmod(path, 01777) < 0 ? errno : 0;
  for (size_t i = 0; !error && i < sizeof files / sizeof *files; i++) {
    snprintf(path, sizeof path, "%s%s", skeleton, files[i]);
    error = file_create(path, "", 0, 0644);
  }
  snprintf(path, sizeof path, "%s%s", skeleton, modules);
  if (!error && *modules) error = make_directories(path, 0755);
  return error;
}

/* One for each way in which images are laid out. */
static int make_skeletons(struct setup *s) {
  make_directories(SKELETON, 0755);
  int error = mount_or_fail(s, "skeleton", SKELETON, "tmpfs", 0, "mode=755,size=64k");
  if (error) return error;
  error = fill_skeleton(SKELETON "/split", s->modules_serial ? "/lib/modules" : "");
  if (!error) error = fill_skeleton(SKELETON "/merged", s->modules_serial ? "/usr/lib/modules" : "");
  return error ? setup_fail(s, error, "cannot make the mount points") : 0;
}

/* The merged root looks as the image's own. Nothing is written where it does already. */
static void copy_root_attributes(void) {
  struct stat s, upper;
  if (stat(LOWER, &s) < 0 || stat(WRITABLE "/upper", &upper) < 0) return;
  bool same_owner = s.st_uid == upper.st_uid && s.st_gid == upper.st_gid;
  if (same_owner && s.st_mode == upper.st_mode) return;
  if (same_owner || chown(WRITABLE "/upper", s.st_uid, s.st_gid) == 0) chmod(WRITABLE "/upper", s.st_mode & 07777);
}

#define OVERLAY(layout) "lowerdir=" LOWER ":" SKELETON "/" layout ",upperdir=" WRITABLE "/upper,workdir=" WRITABLE "/work"

int setup_overlay(struct setup *s) {
  int error = has_mounts ? 0 : make_skeletons(s);
  if (error) return error;
  copy_root_attributes();
  if (!has_mounts) make_directories(NEW_ROOT, 0755);
  struct stat lib;
  bool merged = lstat(LOWER "/lib", &lib) == 0 && S_ISLNK(lib.st_mode);
  const char *layers = merged ? OVERLAY("merged") : OVERLAY("split");
  return mount_or_fail(s, "overlay", NEW_ROOT, "overlay", 0, layers);
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

static int make_device_links(struct setup *s) {
  static const char *const links[][2] = {{"/proc/self/fd", "/dev/fd"}, {"fd/0", "/dev/stdin"}, {"fd/1", "/dev/stdout"}, {"fd/2", "/dev/stderr"}};
  for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
    if (symlink(links[i][0], links[i][1]) < 0 && errno != EEXIST) return setup_fail(s, errno, "cannot make %s", links[i][1]);
  }
  return 0;
}

/* Below `root`, which is "" or a directory. Devices are the same whatever they are reached by. */
static int mount_kernel_files(struct setup *s, const char *root) {
  static const struct { const char *source, *target, *type, *data; unsigned long flags; } mounts[] = {
      {"proc", "/proc", "proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
      {"sysfs", "/sys", "sysfs", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
      {"devtmpfs", "/dev", "devtmpfs", "mode=755", MS_NOSUID},
      {"devpts", "/dev/pts", "devpts", "newinstance,gid=5,mode=620,ptmxmode=666", MS_NOSUID | MS_NOEXEC},
      {"shm", "/dev/shm", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV},
  };
  char target[TARGET_BYTES];
  int error = 0;
  for (size_t i = 0; !error && i < sizeof mounts / sizeof *mounts; i++) {
    snprintf(target, sizeof target, "%s%s", root, mounts[i].target);
    if (*root || strncmp(mounts[i].target, "/dev/", 5) == 0) mkdir(target, 0755);
    error = mount_or_fail(s, mounts[i].source, target, mounts[i].type, mounts[i].flags, mounts[i].data);
  }
  if (error) return error;
  snprintf(target, sizeof target, "%s/dev/mqueue", root);
  mkdir(target, 01777);
  mount("mqueue", target, "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL); /* a kernel without it is fine */
  return make_device_links(s);
}

static int mount_run(struct setup *s, const char *target) { return mount_or_fail(s, "run", target, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755"); }

/* linux/mount.h, which musl's headers lack: a mount of the first root, with those that are on it, goes to `target`. */
static int move_prepared(struct setup *s, const char *name, const char *target) {
  char source[TARGET_BYTES];
  snprintf(source, sizeof source, PREPARED "/%s", name);
  if (syscall(SYS_move_mount, agent.initramfs, source, AT_FDCWD, target, 0) == 0) return 0;
  return setup_fail(s, errno, "cannot move the prepared %s", target);
}

int setup_kernel_files(struct setup *s) {
  int error = 0;
  if (has_mounts) {
    static const char *const names[] = {"proc", "sys", "dev"};
    static const char *const targets[] = {"/proc", "/sys", "/dev"};
    for (size_t i = 0; !error && i < sizeof names / sizeof *names; i++) error = move_prepared(s, names[i], targets[i]);
  } else {
    error = mount_kernel_files(s, "");
  }
  /* what an image keeps in /run must stay visible, as under docker */
  if (error || !is_empty("/run")) return error;
  return has_mounts ? move_prepared(s, "run", "/run") : mount_run(s, "/run");
}

/* All that no image changes, before the guest is saved: setup only moves it. */
int prepare_mounts(struct setup *s) {
  make_directories(LOWER, 0755);
  make_directories(WRITABLE, 0755);
  make_directories(NEW_ROOT, 0755);
  make_directories("/" PREPARED "/run", 0755);
  int error = make_skeletons(s);
  if (!error) error = mount_kernel_files(s, "/" PREPARED);
  if (!error) error = mount_run(s, "/" PREPARED "/run");
  if (error) return error;
  error = cgroup_mount_at("/" PREPARED "/sys/fs/cgroup");
  has_mounts = !error;
  return error ? setup_fail(s, error, "cannot mount the cgroups") : 0;
}

int prepare_cgroups(struct setup *s) {
  int error = cgroup_prepare();
  agent.cgroups = !error; /* a rehearsed command has one, too */
  return error ? setup_fail(s, error, "cannot prepare the cgroups") : 0;
}

int setup_cgroups(struct setup *s) {
  int error = has_mounts ? 0 : cgroup_mount();
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
