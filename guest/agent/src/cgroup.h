/* One cgroup (v2) per command, to learn of OOM kills. Everything here is best effort. */
#ifndef KILN_CGROUP_H
#define KILN_CGROUP_H
#include <stdbool.h>

/* Mounts it and lets children have every controller. 0 or an errno. */
int cgroup_mount(void);
/* In the child: makes the command's cgroup and enters it. */
void cgroup_enter(const char *id);
/* Whether any process of it was killed for want of memory. */
bool cgroup_oom_killed(const char *id);
/* Stays while a process is in it. */
void cgroup_remove(const char *id);
#endif
