/*
 * parted.h: a primary that went on alone and its standby that took over: two timelines of one store, what each holds, and the way back of the one that was primary. Failures fail the test.
 */
#ifndef TESTS_LIB_PARTED_H
#define TESTS_LIB_PARTED_H

#include "store/core/rewind.h"
#include "tests/lib/twosites.h"

struct parted {
    struct teststore a, b;               /* who was primary, who took over */
    uint64_t at, end;                    /* where both part; the end of what ${a} has */
};

/* What happened to it, together. */
enum {
    PARTED_PACKED = 1,                   /* ${a} packed when both had gone on, as far as it may */
    PARTED_PACKED_BEFORE = 2,            /* before the fork, too */
    PARTED_OTHER_PACKED = 4,             /* ${b} packed */
    PARTED_BASE = 8,                     /* ${a} has a base of before the fork */
    PARTED_FORGOTTEN = 16,               /* ${a} did not wait for ${b}: what it packed may hold both sides of the fork */
};

/* parted_make(p, how): ${b} is primary, ${a} a standby that holds a change and a file which were never shipped. parted_free. parted_pack(t): as far as it may. */
void parted_make(struct parted *p, int how);
void parted_free(struct parted *p);
void parted_pack(struct teststore *t);

/* parted_fork(by, at): whoever follows ${by} goes back to there. parted_go_back(t, r): closed, gone back, and opened; the index is made anew. parted_reindex(t): opened so. */
struct rewind parted_fork(struct teststore *by, uint64_t at);
void parted_go_back(struct teststore *t, struct rewind *r);
void parted_reindex(struct teststore *t);

/* parted_is_back(p): ${a} is what it was at the fork. parted_is_followed(t): it is what ${b} made of that. parted_branch_is_whole(p, name): all of the other timeline is in it,
 * and nothing changes it. */
void parted_is_back(struct parted *p);
void parted_is_followed(struct teststore *t);
void parted_branch_is_whole(struct parted *p, const char *name);

/*
 * parted_cut_off(how, n, mode): ${a} goes back, and the power fails at the n-th call, and once more behind the next open: it is the store of before, or has gone back; another try ends it, there is
 * one branch, and it follows. True: it came to its end before the n-th call.
 */
bool parted_cut_off(int how, unsigned n, enum simio_cut_mode mode);

#endif
