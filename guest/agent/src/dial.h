/* Connections into the guest: dialed for the host, one socket each, gone with their session. */
#ifndef KILN_DIAL_H
#define KILN_DIAL_H
#include "frame.h"
#include "loop.h"
#include "ring.h"
#include <sys/socket.h>

/* Answers `request` when it is connected or everything has refused. */
void dial_start(uint32_t request, uint32_t stream, uint32_t protocol, uint32_t port);
/* A DATA, CREDIT or RESET of the host; false where the host broke a rule. */
bool dial_frame(const struct frame *f);
/* Appends data and credit frames, in turns, while `out` has less than `limit` bytes. */
void dial_fill(struct buffer *out, size_t limit);
void dial_close_all(void);

enum { DIAL_ADDRESSES = 8 };

/* dial_address.c: where a port may listen: 127.0.0.1, ::1, then the interfaces' own addresses. False past the last. */
bool dial_address(int index, uint16_t port, struct sockaddr_storage *address, socklen_t *length);
#endif
