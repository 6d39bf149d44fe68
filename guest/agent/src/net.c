/* The interfaces: lo, and the NIC where the VM has one. */
#include "file.h"
#include "setup.h"
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAC_BYTES = 6, PREFIX_AT = 6, ADDRESS_AT = 8, GATEWAY_AT = 12, NIC_MS = 10000, NIC_POLL_US = 500, INTERFACES = 64 };

/* The NIC that has been up since before the guest was saved, and all that it was given. */
static struct {
  char name[IFNAMSIZ];
  uint8_t network[NETWORK_BYTES];
} ready;

/* Its name: the first interface of Ethernet, since those that the image makes come later. */
static bool find_nic(int fd, char name[IFNAMSIZ]) {
  for (int index = 1; index <= INTERFACES; index++) {
    struct ifreq request = {.ifr_ifindex = index};
    if (ioctl(fd, SIOCGIFNAME, &request) < 0 || ioctl(fd, SIOCGIFHWADDR, &request) < 0) continue;
    if (request.ifr_hwaddr.sa_family != ARPHRD_ETHER) continue;
    memcpy(name, request.ifr_name, IFNAMSIZ);
    return true;
  }
  return false;
}

/* The driver was loaded with the other modules; its interface may take a moment. */
static int await_nic(struct setup *s, int fd, char name[IFNAMSIZ]) {
  int64_t deadline = loop_now_ms() + NIC_MS;
  while (!find_nic(fd, name)) {
    if (virtio_bind_next(VIRTIO_NET)) continue;
    if (loop_now_ms() > deadline) return setup_fail(s, ENODEV, "no NIC");
    usleep(NIC_POLL_US);
  }
  return 0;
}

static int set_flags(int fd, const char *name, short flags) {
  struct ifreq request = {.ifr_flags = flags};
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  return ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? errno : 0;
}

static void put_address(struct sockaddr *out, const void *address) {
  struct sockaddr_in in = {.sin_family = AF_INET};
  memcpy(&in.sin_addr, address, sizeof in.sin_addr);
  memcpy(out, &in, sizeof in);
}

static int set_address(int fd, const char *name, unsigned long request, const void *address) {
  struct ifreq value = {0};
  strncpy(value.ifr_name, name, IFNAMSIZ - 1);
  put_address(&value.ifr_addr, address);
  return ioctl(fd, request, &value) < 0 ? errno : 0;
}

/* Also where it has one: a restored guest has its snapshot's. */
static int set_mac(int fd, const char *name, const uint8_t *mac) {
  struct ifreq request = {.ifr_hwaddr.sa_family = ARPHRD_ETHER};
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  memcpy(request.ifr_hwaddr.sa_data, mac, MAC_BYTES);
  return ioctl(fd, SIOCSIFHWADDR, &request) < 0 ? errno : 0;
}

static int add_default_route(int fd, const void *gateway) {
  struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
  uint32_t any = 0;
  put_address(&route.rt_dst, &any);
  put_address(&route.rt_genmask, &any);
  put_address(&route.rt_gateway, gateway);
  return ioctl(fd, SIOCADDRT, &route) < 0 && errno != EEXIST ? errno : 0;
}

/* Its link is IPv4 only; an address made from a MAC would outlive it. A kernel without IPv6 is fine. */
static void disable_ipv6(const char *name) {
  char path[80];
  snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%.*s/disable_ipv6", IFNAMSIZ, name);
  file_write(path, "1", 1);
}

static int set_up_nic(struct setup *s, int fd, char name[IFNAMSIZ]) {
  const uint8_t *network = s->network;
  if (network[PREFIX_AT] > 32) return setup_fail(s, EINVAL, "a network of %u bits", network[PREFIX_AT]);
  uint32_t mask = htonl(network[PREFIX_AT] ? UINT32_MAX << (32 - network[PREFIX_AT]) : 0);
  int error = await_nic(s, fd, name);
  if (error) return error;
  disable_ipv6(name);
  if (!error) error = set_flags(fd, name, 0);
  if (!error) error = set_mac(fd, name, network);
  if (!error) error = set_address(fd, name, SIOCSIFADDR, network + ADDRESS_AT);
  if (!error) error = set_address(fd, name, SIOCSIFNETMASK, &mask);
  if (!error) error = set_flags(fd, name, IFF_UP | IFF_RUNNING);
  if (!error) error = add_default_route(fd, network + GATEWAY_AT);
  return error ? setup_fail(s, error, "the NIC %s cannot be set up", name) : 0;
}

/* Only its MAC is the VM's own. */
static bool is_ready(const uint8_t *network) {
  return *ready.name && memcmp(network + PREFIX_AT, ready.network + PREFIX_AT, NETWORK_BYTES - PREFIX_AT) == 0;
}

int setup_network(struct setup *s) {
  char name[IFNAMSIZ];
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return setup_fail(s, errno, "no sockets");
  int error = set_flags(fd, "lo", IFF_UP | IFF_RUNNING);
  if (error) setup_fail(s, error, "cannot bring lo up");
  if (!error && s->network && !(is_ready(s->network) && set_mac(fd, ready.name, s->network) == 0)) error = set_up_nic(s, fd, name);
  /* A guest that was saved has one, whoever is restored from it. */
  if (!s->network) virtio_unbind(VIRTIO_NET);
  close(fd);
  return error;
}

int prepare_network(struct setup *s) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return setup_fail(s, errno, "no sockets");
  int error = set_flags(fd, "lo", IFF_UP | IFF_RUNNING);
  if (error) setup_fail(s, error, "cannot bring lo up");
  if (!error && s->network) {
    error = set_up_nic(s, fd, ready.name);
    memcpy(ready.network, s->network, NETWORK_BYTES);
  }
  close(fd);
  return error;
}
