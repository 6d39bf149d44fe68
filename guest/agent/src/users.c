#include "users.h"
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_LIMIT = 4 << 20, NAME_BYTES = 256, FIELDS = 7 };

/* A regular file's text, or "" where there is none: an image may have no users. */
static char *text_of(const char *path) {
  struct stat s;
  int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  size_t size = fd >= 0 && fstat(fd, &s) == 0 && S_ISREG(s.st_mode) && s.st_size < FILE_LIMIT ? (size_t)s.st_size : 0;
  char *text = calloc(1, size + 1);
  size_t len = 0;
  for (ssize_t n = 1; text && len < size && n > 0; len += n > 0 ? (size_t)n : 0) n = read(fd, text + len, size - len);
  if (fd >= 0) close(fd);
  return text;
}

/* Splits the next line of *text at its colons; false at the end. Missing fields are "". */
static bool next_entry(char **text, char *fields[FIELDS]) {
  if (!*text || !**text) return false;
  char *line = strsep(text, "\n");
  static char empty[] = "";
  for (int i = 0; i < FIELDS; i++) {
    char *field = line ? strsep(&line, ":") : NULL;
    fields[i] = field ? field : empty;
  }
  return true;
}

static bool number_of(const char *text, uint32_t *number) {
  char *end;
  errno = 0;
  unsigned long long value = strtoull(text, &end, 10);
  if (*text < '0' || *text > '9' || *end || errno || value > UINT32_MAX - 1) return false;
  *number = (uint32_t)value;
  return true;
}

/* The entry that is called `wanted` or has its number. Fills what it says. */
static bool find_user(const char *wanted, struct user *user, char name[NAME_BYTES]) {
  char *text = text_of("/etc/passwd"), *rest = text, *fields[FIELDS];
  bool found = false;
  uint32_t uid, gid, number;
  bool numeric = number_of(wanted, &number);
  while (!found && next_entry(&rest, fields)) {
    if (!*fields[0] || !number_of(fields[2], &uid) || !number_of(fields[3], &gid)) continue;
    if (strcmp(fields[0], wanted) != 0 && !(numeric && number == uid)) continue;
    found = true;
    user->uid = uid;
    user->gid = gid;
    snprintf(user->home, sizeof user->home, "%s", fields[5]);
    snprintf(name, NAME_BYTES, "%s", fields[0]);
  }
  free(text);
  if (!found && numeric) user->uid = number;
  return found || numeric;
}

static bool find_group(const char *wanted, gid_t *result) {
  char *text = text_of("/etc/group"), *rest = text, *fields[FIELDS];
  bool found = false;
  uint32_t gid, number;
  bool numeric = number_of(wanted, &number);
  while (!found && next_entry(&rest, fields)) {
    if (!*fields[0] || !number_of(fields[2], &gid)) continue;
    found = strcmp(fields[0], wanted) == 0 || (numeric && number == gid);
    if (found) *result = gid;
  }
  free(text);
  if (!found && numeric) *result = number;
  return found || numeric;
}

static bool lists(char *members, const char *name) {
  for (char *member; (member = strsep(&members, ","));) {
    if (strcmp(member, name) == 0) return true;
  }
  return false;
}

static void find_groups(const char *name, struct user *user) {
  char *text = text_of("/etc/group"), *rest = text, *fields[FIELDS];
  uint32_t gid;
  while (next_entry(&rest, fields) && user->group_count < USER_GROUPS) {
    if (number_of(fields[2], &gid) && lists(fields[3], name)) user->groups[user->group_count++] = gid;
  }
  free(text);
}

bool user_find(const char *spec, struct user *user) {
  char wanted[NAME_BYTES], name[NAME_BYTES] = "";
  *user = (struct user){0};
  snprintf(wanted, sizeof wanted, "%s", spec);
  char *group = strchr(wanted, ':');
  if (group) *group++ = 0;
  if (!find_user(*wanted ? wanted : "0", user, name)) return false;
  if (!*user->home) strcpy(user->home, "/");
  if (group && *group) return find_group(group, &user->gid);
  if (*name) find_groups(name, user);
  return true;
}
