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

enum { SERIAL_BYTES = 64, DISKS_MS = 10000, POLL_US = 500 };

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

int setup_disks(struct setup *s) {
  int error = disk_await(s, s->root_serial, s->root);
  if (!error) error = disk_await(s, s->writable_serial, s->writable);
  if (!error && s->modules_serial && !agent.has_module_files) error = disk_await(s, s->modules_serial, s->modules_disk);
  return error;
}
