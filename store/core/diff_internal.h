/* diff_internal.h: what the files of diff share. Public: diff.h. */
#ifndef STORE_CORE_DIFF_INTERNAL_H
#define STORE_CORE_DIFF_INTERNAL_H

#include "store/core/diff.h"
#include "store/log/record.h"

/* What may be another thing at one moment than at the other. All zero to begin with. */
struct name { uint64_t parent; uint32_t len; const char *p; };
/* ${how}: bits of enum diff_how; ${n}: records about it. */
enum diff_how { DIFF_BY_NAME = 0, DIFF_BY_DATA = 1, DIFF_BY_XATTR = 2 };
struct object { uint64_t ino, n; unsigned how; };
struct touched {
    struct name *name;
    size_t n_names, cap_names;
    struct object *obj;
    size_t n_objs, cap_objs;
    struct diff_total total;
};

/* diff_touch_name(t, parent, name, err), diff_touch_object(t, ino, how, err): one more. Either is often the same again: there is room for so many different ones. Errors: TOOLONG, NOMEM. */
int diff_touch_name(struct touched *t, uint64_t parent, const struct rec_bytes *name, struct err *err);
int diff_touch_object(struct touched *t, uint64_t ino, enum diff_how how, struct err *err);

/* diff_touch_rows(s, from, to, t, err): all of them by the rows of the index, where the records between are gone: a pass over all. Errors: also DAMAGE, IO. */
int diff_touch_rows(struct store *s, uint64_t from, uint64_t to, struct touched *t, struct err *err);

#endif
