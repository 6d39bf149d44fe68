#include "setup.h"
#include "bytes.h"
#include "tlv.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct step {
  const char *name;
  int (*run)(struct setup *s);
  bool each_epoch; /* done again when a restored guest is set up for a new epoch */
};

/* Nothing of the image runs or is read before its entropy, and no driver of a disk is loaded before SETUP. */
static const struct step steps[] = {
    {"entropy", setup_entropy, true},
    {"clock", setup_clock, true},
    {"modules", setup_modules, false},
    {"disks", setup_disks, false},
    {"root", setup_root, false},
    {"writable", setup_writable, false},
    {"overlay", setup_overlay, false},
    {"switch-root", setup_switch, false},
    {"kernel-files", setup_kernel_files, false},
    {"cgroups", setup_cgroups, false},
    {"module-files", setup_module_files, false},
    {"identity", setup_identity, true},
    {"network", setup_network, true},
};
enum { STEPS = sizeof steps / sizeof *steps };

int setup_fail(struct setup *s, int error, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(s->message, sizeof s->message, format, arguments);
  va_end(arguments);
  return error ? error : EIO;
}

static bool read_fields(uint8_t *payload, uint32_t length, struct setup *s) {
  struct tlv t;
  const uint8_t *end = payload + length;
  int more;
  while ((more = tlv_next(&payload, end, &t)) > 0) {
    bool ok = true;
    switch (t.tag) {
      case TAG_MODULE: ok = s->module_count < SETUP_MODULES && (s->modules[s->module_count++] = tlv_string(&t)); break;
      case TAG_NETWORK_MODULE: ok = s->network_module_count < NETWORK_MODULES && (s->network_modules[s->network_module_count++] = tlv_string(&t)); break;
      case TAG_NETWORK: s->network = t.value; ok = t.length == NETWORK_BYTES; break;
      case TAG_DISK_ROOT: ok = (s->root_serial = tlv_string(&t)); break;
      case TAG_DISK_WRITABLE: ok = (s->writable_serial = tlv_string(&t)); break;
      case TAG_DISK_MODULES: ok = (s->modules_serial = tlv_string(&t)); break;
      case TAG_HOSTNAME: ok = (s->hostname = tlv_string(&t)); break;
      case TAG_MACHINE_ID: ok = (s->machine_id = tlv_string(&t)); break;
      case TAG_BOOT_ID: ok = (s->boot_id = tlv_string(&t)); break;
      case TAG_HOSTS: ok = (s->hosts = tlv_string(&t)); break;
      case TAG_RESOLV_CONF: ok = (s->resolv_conf = tlv_string(&t)); break;
      case TAG_CLOCK_NS: ok = tlv_u64(&t, &s->clock_ns); break;
      case TAG_REHEARSED_SLOTS: ok = tlv_u32(&t, &s->rehearsed_slots); break;
      case TAG_ENTROPY: s->entropy = t.value; s->entropy_bytes = t.length; break;
      default: break;
    }
    if (!ok) return false;
  }
  return more == 0;
}

bool setup_read(uint8_t *payload, uint32_t length, struct setup *s) {
  return read_fields(payload, length, s) && s->root_serial && s->writable_serial && s->hostname && s->machine_id && s->boot_id &&
         s->hosts && s->resolv_conf && s->entropy_bytes == WIRE_ENTROPY_BYTES;
}

static uint64_t now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void put_time(struct buffer *out, const char *name, uint64_t us) {
  uint8_t value[64];
  size_t n = strlen(name);
  put32(value, (uint32_t)us);
  memcpy(value + 4, name, n);
  tlv_put(out, TAG_STEP_TIME, value, 4 + n);
}

static void reply_failure(uint32_t request, const struct setup *s, const char *step, int error) {
  struct buffer out = {0};
  tlv_put_string(&out, TAG_STEP, step);
  tlv_put_string(&out, TAG_MESSAGE, s->message);
  tlv_put_u32(&out, TAG_ERRNO, (uint32_t)error);
  agent_say("setup failed at %s: %s: %s", step, s->message, strerror(error));
  reply(request, ERROR_SETUP_FAILED, &out);
  buffer_free(&out);
}

void setup_run(struct agent *a, uint32_t request, uint8_t *payload, uint32_t length) {
  struct setup s = {0};
  if (a->ready) {
    reply_ok(request);
    return;
  }
  if (!setup_read(payload, length, &s)) {
    reply_error(request, ERROR_INVALID, 0, "the setup cannot be read");
    return;
  }
  struct buffer out = {0};
  for (const struct step *step = steps; step < steps + STEPS; step++) {
    if (a->mounted && !step->each_epoch) continue;
    uint64_t begin = now_us();
    int error = step->run(&s);
    if (error) {
      reply_failure(request, &s, step->name, error);
      buffer_free(&out);
      return;
    }
    put_time(&out, step->name, now_us() - begin);
  }
  virtio_release();
  a->ready = a->mounted = a->cgroups = true;
  reply(request, ERROR_OK, &out);
  buffer_free(&out);
}

void prepare_run(uint32_t request, uint8_t *payload, uint32_t length) {
  struct setup s = {0};
  if (agent.mounted || !read_fields(payload, length, &s)) {
    reply_error(request, ERROR_INVALID, 0, "there is nothing that can be prepared");
    return;
  }
  int error = setup_modules(&s);
  if (!error && s.modules_serial) error = prepare_module_files(&s);
  if (!error && s.root_serial) error = disk_meet(&s, s.root_serial);
  if (!error && s.writable_serial) error = disk_meet(&s, s.writable_serial);
  if (!error) error = prepare_network(&s);
  if (!error) error = prepare_cgroups(&s);
  if (!error) error = prepare_mounts(&s);
  if (error) reply_failure(request, &s, "prepare", error);
  else reply_ok(request);
}
