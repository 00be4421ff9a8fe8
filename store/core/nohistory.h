/*
 * nohistory.h: what is not of the past (rows.h, `hidden`): the setting that says so by name, and the words for it.
 *
 * The setting `nohistory` is shell patterns for names, between spaces, and the word CACHEDIR.TAG: a directory in which a file of that name is written
 * that begins as https://bford.info/cachedir says gets the attribute REC_XATTR_NOHISTORY. It is asked here, when a name is given, and what it
 * answers is in the record: whoever applies that asks nothing.
 */
#ifndef STORE_CORE_NOHISTORY_H
#define STORE_CORE_NOHISTORY_H

#include "store/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NOHISTORY_MAX = 500 };            /* bytes of the setting */
#define NOHISTORY_TAG "CACHEDIR.TAG"
#define NOHISTORY_SIGNATURE "Signature: 8a477f597d28d172789f06886806bc55"

/* A zeroed one matches nothing. */
struct nohistory { char text[NOHISTORY_MAX + 2]; bool tags; };     /* text: patterns, each ended by NUL, then an empty one */

/* nohistory_check(value, norm, cap, err): a value of the setting, in its one form. USAGE what is wrong with which pattern. */
int nohistory_check(const char *value, char *norm, size_t cap, struct err *err);
/* nohistory_set(n, value): as the setting says; NULL, and what nohistory_check would refuse: nothing. */
void nohistory_set(struct nohistory *n, const char *value);
/* nohistory_has(n, name, nlen): a pattern has this name. */
bool nohistory_has(const struct nohistory *n, const char *name, size_t nlen);

/*
 * nohistory_explain(s, path, err): of a path of the live tree. 1: it is hidden, or in what is; 2: it is not there, and would be if it were made now, in the
 * directory that is; 0: neither. In ${err} (may be NULL) why, as a NOENT, and what to do about it.
 */
struct store;
int nohistory_explain(struct store *s, const char *path, struct err *err);

#endif
