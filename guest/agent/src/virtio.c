/* Devices of the virtio bus get their drivers one by one, when they are needed: so a guest can be saved with the drivers
   loaded and no device looked at, and slots that are empty cost nothing. */
#include "file.h"
#include "setup.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUS "/sys/bus/virtio"
enum { DEVICES = 64, NAME_BYTES = 20, PATH_BYTES = 96 };

void virtio_hold(void) { file_write(BUS "/drivers_autoprobe", "0", 1); }
void virtio_release(void) { file_write(BUS "/drivers_autoprobe", "1", 1); }

static const char *const drivers[VIRTIO_KINDS] = {[VIRTIO_NET] = "virtio_net", [VIRTIO_BLOCK] = "virtio_blk"};

static bool is_kind(const char *name, unsigned kind) {
  char path[PATH_BYTES], text[16];
  snprintf(path, sizeof path, BUS "/devices/%s/device", name);
  return file_read(path, text, sizeof text) >= 0 && strtoul(text, NULL, 16) == kind;
}

static bool is_free(const char *name) {
  char path[PATH_BYTES];
  snprintf(path, sizeof path, BUS "/devices/%s/driver", name);
  return access(path, F_OK) < 0;
}

/* `verb` is "bind" or "unbind". */
static bool tell_driver(enum virtio_kind kind, const char *verb, const char *name) {
  char path[PATH_BYTES];
  snprintf(path, sizeof path, BUS "/drivers/%s/%s", drivers[kind], verb);
  return file_write(path, name, strlen(name)) == 0;
}

bool virtio_bind_next(enum virtio_kind kind) {
  static int next[VIRTIO_KINDS];
  for (int *at = &next[kind]; *at < DEVICES; (*at)++) {
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "virtio%d", *at);
    if (!is_kind(name, kind) || !is_free(name)) continue;
    if (!tell_driver(kind, "bind", name)) return false;
    (*at)++;
    return true;
  }
  return false;
}

static bool tell_nth(enum virtio_kind kind, int nth, const char *verb) {
  for (int i = 0, seen = 0; i < DEVICES; i++) {
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "virtio%d", i);
    if (is_kind(name, kind) && seen++ == nth) return tell_driver(kind, verb, name);
  }
  return false;
}

bool virtio_bind_at(enum virtio_kind kind, int nth) { return tell_nth(kind, nth, "bind"); }
void virtio_unbind_at(enum virtio_kind kind, int nth) { tell_nth(kind, nth, "unbind"); }

/* `device` is "/dev/vdb". */
bool virtio_rebind_disk(const char *device) {
  char path[PATH_BYTES], target[PATH_BYTES];
  snprintf(path, sizeof path, "/sys/block/%s/device", device + sizeof "/dev");
  ssize_t n = readlink(path, target, sizeof target - 1);
  if (n < 0) return false;
  target[n] = 0;
  const char *slash = strrchr(target, '/'), *name = slash ? slash + 1 : target;
  return tell_driver(VIRTIO_BLOCK, "unbind", name) && tell_driver(VIRTIO_BLOCK, "bind", name);
}

void virtio_unbind(enum virtio_kind kind) {
  for (int i = 0; i < DEVICES; i++) virtio_unbind_at(kind, i);
}
