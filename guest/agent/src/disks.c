/* Finds the disks by the serials that the driver gave them. */
#include "file.h"
#include "setup.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SERIAL_BYTES = 64, SERIAL_SHOWN = 20, DISKS_MS = 10000, SIZE_MS = 1000, POLL_US = 500, MET = 4 };

/* Disks that have had their driver since before the guest was saved. */
static struct {
  char serial[SERIAL_SHOWN + 1], device[DEVICE_NAME];
} met[MET];
static int met_count;

static int find_met(const char *serial) {
  int i = 0;
  while (i < met_count && strcmp(met[i].serial, serial) != 0) i++;
  return i < met_count ? i : -1;
}

/* Whether the disk of `serial` has its node by now. */
static bool find_disk(const char *serial, char device[DEVICE_NAME]) {
  DIR *blocks = opendir("/sys/block");
  bool found = false;
  for (struct dirent *entry; blocks && !found && (entry = readdir(blocks));) {
    char path[300], text[SERIAL_BYTES];
    snprintf(path, sizeof path, "/sys/block/%s/serial", entry->d_name);
    if (strncmp(entry->d_name, "vd", 2) != 0 || file_read(path, text, sizeof text) < 0) continue;
    text[strcspn(text, "\n")] = 0;
    struct stat s;
    snprintf(device, DEVICE_NAME, "/dev/%.20s", entry->d_name);
    found = strcmp(text, serial) == 0 && stat(device, &s) == 0 && S_ISBLK(s.st_mode);
  }
  if (blocks) closedir(blocks);
  return found;
}

int disk_await(struct setup *s, const char *serial, char device[DEVICE_NAME]) {
  int64_t deadline = loop_now_ms() + DISKS_MS;
  while (!find_disk(serial, device)) {
    if (virtio_bind_next(VIRTIO_BLOCK)) continue;
    if (loop_now_ms() > deadline) return setup_fail(s, ENODEV, "no disk with the serial %.40s", serial);
    usleep(POLL_US);
  }
  return 0;
}

int disk_meet(struct setup *s, const char *serial) {
  char device[DEVICE_NAME];
  int error = disk_await(s, serial, device);
  if (error || met_count == MET || strlen(serial) > SERIAL_SHOWN) return error;
  strcpy(met[met_count].serial, serial);
  strcpy(met[met_count++].device, device);
  return 0;
}

static bool has_size(const char *device) {
  char path[80], text[24];
  snprintf(path, sizeof path, "/sys/block/%s/size", device + sizeof "/dev");
  return file_read(path, text, sizeof text) > 0 && text[0] != '0';
}

static int disk_find(struct setup *s, const char *serial, char device[DEVICE_NAME]) {
  int at = find_met(serial);
  if (at < 0) return disk_await(s, serial, device);
  strcpy(device, met[at].device);
  return 0;
}

int disk_await_size(struct setup *s, const char *serial, char device[DEVICE_NAME]) {
  int at = find_met(serial);
  int64_t deadline = loop_now_ms() + SIZE_MS;
  while (at >= 0 && !has_size(device)) {
    if (loop_now_ms() <= deadline) {
      usleep(POLL_US);
      continue;
    }
    agent_say("%s has no size: its driver looks anew", device);
    met[at].serial[0] = 0;
    if (!virtio_rebind_disk(device)) return setup_fail(s, ENODEV, "%s cannot be looked at anew", device);
    return disk_await(s, serial, device);
  }
  return 0;
}

int setup_disks(struct setup *s) {
  int error = disk_find(s, s->root_serial, s->root);
  if (!error) error = disk_find(s, s->writable_serial, s->writable);
  if (!error && s->modules_serial && !agent.has_module_files) error = disk_await(s, s->modules_serial, s->modules_disk);
  return error;
}
