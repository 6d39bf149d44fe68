#ifndef KILN_TRANSPORT_H
#define KILN_TRANSPORT_H
#include <stdbool.h>

/* The virtio-serial port called WIRE_PORT_NAME, opened once for the life of the guest; -1 while it is not there. */
int transport_open_port(void);
/* A listener on WIRE_VSOCK_PORT; -1 where the kernel has no vsock. */
int transport_open_vsock(void);
/* Whether the other end of such a connection is the host: any user of the guest may dial its own listener. */
bool transport_is_host(int fd);
/* A connection to such a listener; -1 where there is none. */
int transport_dial_vsock(unsigned cid);
#endif
