/* ops.h: seeded generator of operations on a model. */
#ifndef TESTS_SIM_OPS_H
#define TESTS_SIM_OPS_H

#include "tests/sim/model.h"

/* xorshift-multiply generator; any seed will do. */
struct rng { uint64_t s; };
uint64_t rng_next(struct rng *r);
/* rng_below: [0, n); n > 0. rng_chance: true in ${percent} of calls. */
uint64_t rng_below(struct rng *r, uint64_t n);
bool rng_chance(struct rng *r, unsigned percent);

struct gen {
    struct rng rng;
    unsigned max_objects;        /* about so many live objects are kept */
    unsigned names;              /* size of the pool of names */
    uint32_t max_write;          /* bytes of one write at most */
    bool     big;                /* offsets around block borders and near the largest size */
    uint64_t block;              /* the border worth writing across, bytes */
    int64_t  now_ns;             /* clock of the next operation */
    uint64_t root;
    bool     hides;              /* directories get and lose the attribute that hides what is made in them */
};

/* gen_init: shape of a run, chosen by the seed. */
void gen_init(struct gen *g, uint64_t seed);
/* gen_op: the next operation; most are valid, some are not. A CLONE out of the past comes without data: the caller picks
 * the moment. */
void gen_op(struct gen *g, const struct model *m, struct mop *op);
/* gen_name: name number ${k} of the pool: plain, with newlines, 255 bytes, invalid UTF-8. */
uint32_t gen_name(struct gen *g, unsigned k, char *buf);
/* gen_ino: a random object; want: 0 any, else S_IFMT bits. 0 if there is none. */
uint64_t gen_ino(struct gen *g, const struct model *m, uint32_t want);
/* gen_off: an offset worth trying in a file of ${size} bytes. */
uint64_t gen_off(struct gen *g, uint64_t size);

#endif
