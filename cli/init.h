/* init.h: making a store. */
#ifndef CLI_INIT_H
#define CLI_INIT_H

#include "store/base/err.h"

#include <stdint.h>

/* What the new store is to have; "" and 0 are chosen, and filled in. */
struct init_choice { char timezone[256]; uint64_t history_max, keep_free; };

/*
 * init_store(dir, choice, err):
 * Make a store in ${dir}, which is created (mode 0700) or exists and is empty.
 * Errors: EXIST a store is there; NOTEMPTY; USAGE inside a mount of a store, a bad time zone; NOSPC; ACCES; IO.
 */
int init_store(const char *dir, struct init_choice *choice, struct err *err);

#endif
