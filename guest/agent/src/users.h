/* USER[:GROUP] as docker resolves it, from the guest's own /etc/passwd and /etc/group. */
#ifndef KILN_USERS_H
#define KILN_USERS_H
#include <stdbool.h>
#include <sys/types.h>

enum { USER_GROUPS = 256, USER_HOME = 256 };

struct user {
  uid_t uid;
  gid_t gid;
  gid_t groups[USER_GROUPS];
  int group_count;
  char home[USER_HOME];
};

/* False where a name is unknown. Numbers need no entry. Supplementary groups apply only where no group was asked for. */
bool user_find(const char *spec, struct user *user);
#endif
