/* Devices of the virtio bus get their drivers one by one, when they are needed: so a guest can be saved with the drivers
   loaded and no device looked at, and slots that are empty cost nothing. */
#include "file.h"
#include "setup.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUS "/sys/bus/virtio"
enum { DEVICES = 64, PATH_BYTES = 96 };

void virtio_hold(void) { file_write(BUS "/drivers_autoprobe", "0", 1); }
void virtio_release(void) { file_write(BUS "/drivers_autoprobe", "1", 1); }

static bool is_free(const char *name, unsigned kind) {
  char path[PATH_BYTES], text[16];
  snprintf(path, sizeof path, BUS "/devices/%s/device", name);
  if (file_read(path, text, sizeof text) < 0 || strtoul(text, NULL, 16) != kind) return false;
  snprintf(path, sizeof path, BUS "/devices/%s/driver", name);
  return access(path, F_OK) < 0;
}

bool virtio_bind_next(enum virtio_kind kind) {
  static int next[VIRTIO_KINDS];
  static const char *const drivers[VIRTIO_KINDS] = {[VIRTIO_NET] = "virtio_net", [VIRTIO_BLOCK] = "virtio_blk"};
  for (int *at = &next[kind]; *at < DEVICES; (*at)++) {
    char name[16], path[PATH_BYTES];
    int length = snprintf(name, sizeof name, "virtio%d", *at);
    if (!is_free(name, kind)) continue;
    snprintf(path, sizeof path, BUS "/drivers/%s/bind", drivers[kind]);
    (*at)++;
    if (file_write(path, name, (size_t)length) == 0) return true;
    (*at)--;
    return false;
  }
  return false;
}
