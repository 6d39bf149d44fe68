#ifndef KILN_TRANSPORT_H
#define KILN_TRANSPORT_H
#include <stdbool.h>

/* The virtio-serial port called WIRE_PORT_NAME, opened once for the life of the guest; -1 while it is not there. */
int transport_open_port(void);
/* A listener on WIRE_VSOCK_PORT; -1 where the kernel has no vsock. */
int transport_open_vsock(void);
#endif
