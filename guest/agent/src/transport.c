#include "transport.h"
#include "file.h"
#include "wire_constants.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORTS "/sys/class/virtio-ports"

/* linux/vm_sockets.h, which musl's headers lack */
struct vsock_address {
  unsigned short family, reserved;
  unsigned int port, cid;
  unsigned char zero[4];
};
enum { CID_ANY = -1, CID_HOST = 2 };

int transport_open_port(void) {
  DIR *ports = opendir(PORTS);
  int fd = -1;
  for (struct dirent *entry; ports && fd < 0 && (entry = readdir(ports));) {
    char path[320], name[64];
    snprintf(path, sizeof path, PORTS "/%s/name", entry->d_name);
    if (entry->d_name[0] == '.' || file_read(path, name, sizeof name) < 0) continue;
    name[strcspn(name, "\n")] = 0;
    if (strcmp(name, WIRE_PORT_NAME) != 0) continue;
    snprintf(path, sizeof path, "/dev/%s", entry->d_name);
    fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
  }
  if (ports) closedir(ports);
  return fd;
}

int transport_open_vsock(void) {
  struct vsock_address address = {.family = AF_VSOCK, .port = WIRE_VSOCK_PORT, .cid = (unsigned)CID_ANY};
  int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 4) == 0) return fd;
  close(fd);
  return -1;
}

bool transport_is_host(int fd) {
  struct vsock_address peer = {0};
  socklen_t size = sizeof peer;
  return getpeername(fd, (struct sockaddr *)&peer, &size) == 0 && peer.family == AF_VSOCK && peer.cid == CID_HOST;
}

int transport_dial_vsock(unsigned cid) {
  struct vsock_address address = {.family = AF_VSOCK, .port = WIRE_VSOCK_PORT, .cid = cid};
  int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
  close(fd);
  return -1;
}
