/* SETUP: what makes a booted kernel the VM of one image. */
#ifndef KILN_SETUP_H
#define KILN_SETUP_H
#include "agent.h"

enum { NETWORK_MODULES = 16, NETWORK_BYTES = 16, SETUP_MODULES = 64, SETUP_MESSAGE = 200, DEVICE_NAME = 32 };

struct setup {
  const char *modules[SETUP_MODULES];
  int module_count;
  const char *root_serial, *writable_serial, *modules_serial; /* the last may be NULL */
  const char *hostname, *machine_id, *boot_id, *hosts, *resolv_conf;
  const char *network_modules[NETWORK_MODULES];
  int network_module_count;
  const uint8_t *network; /* NETWORK_BYTES, or NULL: only lo */
  uint32_t rehearsed_slots; /* REHEARSE: which disks of the bus, the root's << 8 | the writable's */
  uint64_t clock_ns;
  const uint8_t *entropy;
  uint32_t entropy_bytes;
  char root[DEVICE_NAME], writable[DEVICE_NAME], modules_disk[DEVICE_NAME]; /* "/dev/vda" */
  char message[SETUP_MESSAGE]; /* what failed, for a person */
};

/* Runs the steps and answers with their times, or with the step that failed. A second SETUP in an epoch changes nothing. */
void setup_run(struct agent *a, uint32_t request, uint8_t *payload, uint32_t length);

/* PREPARE: what every VM of this kernel needs and none differs in, before the guest is saved: modules are loaded, their disk is
   mounted, lo is up, and the NIC and the disks that the host names have their drivers. Those disks have no size yet. */
void prepare_run(uint32_t request, uint8_t *payload, uint32_t length);

/* Steps: 0, or an errno with `message` filled in. */
int setup_modules(struct setup *s);
int setup_entropy(struct setup *s);
int setup_clock(struct setup *s);
int setup_disks(struct setup *s);
int setup_root(struct setup *s);
int setup_writable(struct setup *s);
int setup_overlay(struct setup *s);
int setup_switch(struct setup *s);
int setup_kernel_files(struct setup *s);
int setup_cgroups(struct setup *s);
int setup_module_files(struct setup *s);
int setup_identity(struct setup *s);
int setup_network(struct setup *s);

int prepare_module_files(struct setup *s);
int prepare_network(struct setup *s);
int prepare_cgroups(struct setup *s);
int prepare_mounts(struct setup *s);

/* rehearse.c; the command is this program when it is not PID 1. */
int rehearse_command(void);
void rehearse_run(uint32_t request, uint8_t *payload, uint32_t length);
/* false: it is broken or incomplete. */
bool setup_read(uint8_t *payload, uint32_t length, struct setup *s);

int setup_fail(struct setup *s, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* modules.c: from the initramfs's /modules; loaded already or built in is fine. 0 or an errno. */
int module_load(const char *name);
/* disks.c: waits for the disk of that serial and names its node. 0, or an errno with `message` filled in. */
int disk_await(struct setup *s, const char *serial, char device[DEVICE_NAME]);
/* The same before the guest is saved: setup finds it without a look at the bus. It had no size then. */
int disk_meet(struct setup *s, const char *serial);
/* For one that was met: until it has its size. Where the device does not say so, its driver looks anew. */
int disk_await_size(struct setup *s, const char *serial, char device[DEVICE_NAME]);
/* virtio.c: from `hold` to `release` a device gets its driver only by `bind_next`: true if the next free one of its kind has. */
enum virtio_kind { VIRTIO_NET = 1, VIRTIO_BLOCK = 2, VIRTIO_KINDS };
void virtio_hold(void);
void virtio_release(void);
bool virtio_bind_next(enum virtio_kind kind);
/* The device that is the `nth` of its kind on the bus, from 0. */
bool virtio_bind_at(enum virtio_kind kind, int nth);
void virtio_unbind_at(enum virtio_kind kind, int nth);
bool virtio_rebind_disk(const char *device);
/* Takes the driver away from those that have it. */
void virtio_unbind(enum virtio_kind kind);
/* mounts.c: makes the disks safe before the power goes. */
void mounts_settle(struct agent *a);
#endif
