/* role.h: the request "role", as commands make it (store/svc/svc_role.c). */
#ifndef CLI_ROLE_H
#define CLI_ROLE_H

#include "cli/out.h"
#include "fs/mount.h"
#include "store/base/super.h"

#include <limits.h>
#include <stddef.h>

/* What is answered. */
struct role_answer {
    char role[16];
    char mounted_at[PATH_MAX], options[FS_OPTIONS_TEXT_MAX];    /* "" where it is not mounted */
    char why[ERR_MSG_MAX];      /* why the mount does not fit; what the standby lacks */
    uint64_t lsn;               /* end of what is durable */
    uint64_t epochs_left;       /* its table has room for, and still be followed */
    uint64_t held_ms;           /* hand_over: so long changes waited */
    uint64_t unfinished;        /* the moment whose tree it is not yet (promote --at), 0 */
    struct { uint64_t files, dirs, bytes, unchanged, removed, left, blocked; bool known; } restored;
    bool fits;                  /* promote, demote, show: the kernel lets through what the store takes */
    bool lease_said;            /* promote: why it takes time */
    bool complete;              /* hand_over: the standby has everything */
};

/* Its table of epochs fills, said in time: format of a name, and of what is left, as an unsigned long long. */
#define ROLE_TABLE_FILLS "%s: its table of epochs fills: %llu more promotions, switchovers, copies and forks fit; at 0 nothing can follow it any more, and what is shipped ends. In time make a new store (`spare init`), " \
                         "copy the tree into it and ship that one; this one keeps its history, for reading"
static inline bool role_table_fills(uint64_t epochs_left) { return epochs_left <= super_epochs_left(SUPER_EPOCHS_SOON); }
/* role_epochs_left(o): of an answer of "status" or "role". */
uint64_t role_epochs_left(const json_t *o);

/* role_request(action): promote, demote, show, hand_over. role_emit: takes its answer into the struct role_answer ${arg}; INTR. */
json_t *role_request(const char *action);
int role_emit(void *arg, const char *type, const json_t *o, const void *bin, size_t len);

#endif
