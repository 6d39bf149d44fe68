/* Small files in one call. */
#ifndef KILN_FILE_H
#define KILN_FILE_H
#include <stddef.h>
#include <sys/types.h>

/* The text of a small file, zero-terminated, cut off at size - 1; its length, or -1 with errno. */
ssize_t file_read(const char *path, char *text, size_t size);
/* Writes to a file that exists; 0 or an errno. */
int file_write(const char *path, const void *bytes, size_t n);
/* Creates or empties it first; 0 or an errno. */
int file_create(const char *path, const void *bytes, size_t n, mode_t mode);
/* mkdir -p; 0 or an errno. */
int make_directories(const char *path, mode_t mode);
#endif
