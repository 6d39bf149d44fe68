/*
 * A cgroup (v2) for each command that runs, to learn of OOM kills. Everything here is best effort. Cgroups are used
 * again: making one costs milliseconds, more than starting a small command.
 */
#ifndef KILN_CGROUP_H
#define KILN_CGROUP_H
#include <stdbool.h>
#include <sys/types.h>

/* Mounts it and lets children have every controller. 0 or an errno. */
int cgroup_mount(void);
/* Only that, at a place of its own. */
int cgroup_mount_at(const char *path);
/* The same before a guest is saved, with a few cgroups for its first commands. */
int cgroup_prepare(void);
/* An empty cgroup that nobody else has; -1 where there is none. */
int cgroup_take(void);
void cgroup_give_back(int cgroup);
/* fork() whose child begins in the cgroup: moving it there later would wait for every CPU. For -1, or on a kernel before 5.7, just fork(). */
pid_t cgroup_fork(int cgroup);
/* Whether a process of it was killed for want of memory since it was asked last. */
bool cgroup_had_oom_kill(int cgroup);
#endif
