/* Generated from packages/protocol/src/wire/constants.ts by scripts/generate-wire.ts. */
#ifndef KILN_WIRE_CONSTANTS_H
#define KILN_WIRE_CONSTANTS_H

#define WIRE_MAGIC "KILNv1\r\n"
#define WIRE_PORT_NAME "kiln.agent"
#define WIRE_VERSION 1u
#define WIRE_SYNC 75u
#define WIRE_HEADER_BYTES 12u
#define WIRE_TRAILER_BYTES 4u
#define WIRE_TRAILER 1313622347u
#define WIRE_PAYLOAD_BYTES 16384u
#define WIRE_FLUSH_BYTES 16400u
#define WIRE_REQUEST_BYTES 4194304u
#define WIRE_RING_BYTES 262144u
#define WIRE_STDIN_WINDOW_BYTES 65536u
#define WIRE_EXECS 256u
#define WIRE_EXEC_ID_BYTES 64u
#define WIRE_NONCE_BYTES 16u
#define WIRE_HELLO_BYTES 32u
#define WIRE_HELLO_ACK_BYTES 40u
#define WIRE_EXEC_INFO_BYTES 80u
#define WIRE_ENTROPY_BYTES 64u
#define WIRE_CONNECTIONS 512u
#define WIRE_CONNECTION_WINDOW_BYTES 65536u
#define WIRE_DATAGRAM_BYTES 65507u
#define WIRE_VSOCK_PORT 1024u
#define WIRE_MORE_FLAG 32768u

#define FRAME_HELLO 1u
#define FRAME_HELLO_ACK 2u
#define FRAME_REQUEST 3u
#define FRAME_REPLY 4u
#define FRAME_OUTPUT 5u
#define FRAME_ACK 6u
#define FRAME_STDIN 7u
#define FRAME_WINDOW 8u
#define FRAME_EXIT 9u
#define FRAME_BYE 10u
#define FRAME_DATA 11u
#define FRAME_CREDIT 12u
#define FRAME_RESET 13u

#define OP_SETUP 1u
#define OP_EXEC 2u
#define OP_ATTACH 3u
#define OP_LIST 4u
#define OP_FORGET 5u
#define OP_SIGNAL 6u
#define OP_PING 7u
#define OP_SYNC 8u
#define OP_POWEROFF 9u
#define OP_RESIZE 10u
#define OP_STATS 11u
#define OP_CLOCK 12u
#define OP_DETACH 13u
#define OP_DIAL 14u
#define OP_PREPARE 15u
#define OP_REHEARSE 16u

#define ERROR_OK 0u
#define ERROR_INVALID 1u
#define ERROR_EXEC_NOT_FOUND 2u
#define ERROR_COMMAND_NOT_FOUND 3u
#define ERROR_COMMAND_NOT_EXECUTABLE 4u
#define ERROR_USER_UNKNOWN 5u
#define ERROR_SETUP_FAILED 6u
#define ERROR_LIMIT 7u
#define ERROR_FAILED 8u
#define ERROR_STALE_EPOCH 9u
#define ERROR_UNSUPPORTED 10u
#define ERROR_NOT_READY 11u

#define TAG_ERRNO 1u
#define TAG_MESSAGE 2u
#define TAG_STEP 3u
#define TAG_MODULE 4u
#define TAG_DISK_ROOT 5u
#define TAG_DISK_WRITABLE 6u
#define TAG_DISK_MODULES 7u
#define TAG_HOSTNAME 8u
#define TAG_MACHINE_ID 9u
#define TAG_CLOCK_NS 10u
#define TAG_ENTROPY 11u
#define TAG_HOSTS 12u
#define TAG_RESOLV_CONF 13u
#define TAG_STEP_TIME 14u
#define TAG_NETWORK 15u
#define TAG_NETWORK_MODULE 16u
#define TAG_BOOT_ID 17u
#define TAG_REHEARSED_SLOTS 18u
#define TAG_EXEC_ID 20u
#define TAG_ARG 21u
#define TAG_ENV 22u
#define TAG_CWD 23u
#define TAG_USER 24u
#define TAG_TTY 25u
#define TAG_STDIN 26u
#define TAG_OVERFLOW 27u
#define TAG_UMASK 28u
#define TAG_RLIMIT 29u
#define TAG_STREAM 30u
#define TAG_EXEC_INFO 31u
#define TAG_SIGNAL 32u
#define TAG_GRACE_MS 33u
#define TAG_UPTIME_MS 34u
#define TAG_MEMORY_TOTAL 35u
#define TAG_MEMORY_AVAILABLE 36u
#define TAG_PROTOCOL 37u
#define TAG_PORT 38u

#define OUTPUT_STDOUT 1u
#define OUTPUT_STDERR 2u

#define OVERFLOW_BLOCK 0u
#define OVERFLOW_DROP 1u

#define PROTOCOL_TCP 6u
#define PROTOCOL_UDP 17u

#define STATE_STARTING 0u
#define STATE_RUNNING 1u
#define STATE_EXITED 2u

#define EXEC_FLAG_OOM_KILLED 1u
#define EXEC_FLAG_TTY 2u
#define EXEC_FLAG_STDIN 4u
#define EXEC_FLAG_DROP 8u
#define EXEC_FLAG_STDIN_CLOSED 16u

#endif
