#include "dial.h"
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>

enum { LOOPBACKS = 2 };

/* Of an interface that is up and not loopback; link-local ones need a scope and are left out. */
static bool is_candidate(const struct ifaddrs *at) {
  if (!at->ifa_addr || !(at->ifa_flags & IFF_UP) || (at->ifa_flags & IFF_LOOPBACK)) return false;
  if (at->ifa_addr->sa_family == AF_INET) return true;
  return at->ifa_addr->sa_family == AF_INET6 && !IN6_IS_ADDR_LINKLOCAL(&((struct sockaddr_in6 *)at->ifa_addr)->sin6_addr);
}

static void put_address(const void *from, socklen_t size, struct sockaddr_storage *address, socklen_t *length) {
  memset(address, 0, sizeof *address);
  memcpy(address, from, size);
  *length = size;
}

static bool interface_address(int index, uint16_t port, struct sockaddr_storage *address, socklen_t *length) {
  struct ifaddrs *list, *at;
  if (getifaddrs(&list) < 0) return false;
  for (at = list; at; at = at->ifa_next) {
    if (is_candidate(at) && index-- == 0) break;
  }
  if (at && at->ifa_addr->sa_family == AF_INET) {
    struct sockaddr_in v4;
    memcpy(&v4, at->ifa_addr, sizeof v4);
    v4.sin_port = htons(port);
    put_address(&v4, sizeof v4, address, length);
  } else if (at) {
    struct sockaddr_in6 v6;
    memcpy(&v6, at->ifa_addr, sizeof v6);
    v6.sin6_port = htons(port);
    put_address(&v6, sizeof v6, address, length);
  }
  freeifaddrs(list);
  return at != NULL;
}

bool dial_address(int index, uint16_t port, struct sockaddr_storage *address, socklen_t *length) {
  struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  if (index == 0) put_address(&v4, sizeof v4, address, length);
  else if (index == 1) put_address(&v6, sizeof v6, address, length);
  else return index < DIAL_ADDRESSES && interface_address(index - LOOPBACKS, port, address, length);
  return true;
}
