/* diff_internal.h: what the files of diff share. Public: diff.h. */
#ifndef STORE_CORE_DIFF_INTERNAL_H
#define STORE_CORE_DIFF_INTERNAL_H

#include "store/core/diff.h"
#include "store/log/record.h"

/* What may be another thing at one moment than at the other. All zero to begin with. */
struct name { uint64_t parent; uint32_t len; const char *p; };
struct object { uint64_t ino; bool attrs; };
struct touched {
    struct name *name;
    size_t n_names, cap_names;
    struct object *obj;
    size_t n_objs, cap_objs;
};

/* diff_touch_name(t, parent, name, err), diff_touch_object(t, ino, attrs, err): one more. Errors: TOOLONG, NOMEM. */
int diff_touch_name(struct touched *t, uint64_t parent, const struct rec_bytes *name, struct err *err);
int diff_touch_object(struct touched *t, uint64_t ino, bool attrs, struct err *err);

/* diff_touch_rows(s, from, to, t, err): all of them by the rows of the index, where the records between are gone: a pass over all. Errors: also DAMAGE, IO. */
int diff_touch_rows(struct store *s, uint64_t from, uint64_t to, struct touched *t, struct err *err);

#endif
