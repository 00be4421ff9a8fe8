/* svc_internal.h: what the files of requests share. */
#ifndef STORE_SVC_SVC_INTERNAL_H
#define STORE_SVC_SVC_INTERNAL_H

#include "store/svc/svc.h"
#include "store/svc/wire.h"

/* One request under way. */
struct svc_req {
    const struct svc_env *env;
    struct store *s;
    const struct caller *who;
    const json_t *args;
    const struct svc_stream *stream;    /* NULL: none came along */
    svc_emit_fn *emit;
    void *arg;
    int stopped;                /* what emit returned, once it was not 0 */
    uint64_t entered[4];        /* moments that its arguments name: it is in them until its end */
    unsigned n_entered;
};

/* svc_emit(q, type, item): hand on and release ${item} (NULL: no memory). */
int svc_emit(struct svc_req *q, const char *type, json_t *item);
int svc_emit_data(struct svc_req *q, const void *bin, size_t len);

/* Arguments. Absent: 0 with *out NULL or ${fallback}. Errors: USAGE. */
int svc_arg_text(const struct svc_req *q, const char *key, const char **out, struct err *err);
int svc_arg_path(const struct svc_req *q, const char *key, char **out, struct err *err);   /* malloced */
int svc_arg_bool(const struct svc_req *q, const char *key, bool *out, struct err *err);
int svc_arg_u64(const struct svc_req *q, const char *key, uint64_t fallback, uint64_t *out, struct err *err);
/* svc_arg_at(q, key, fallback, lsn, err): the moment an argument names, resolved. */
int svc_arg_at(struct svc_req *q, const char *key, uint64_t fallback, uint64_t *lsn, struct err *err);

/* Fields of items. */
void svc_put_u64(json_t *o, const char *key, uint64_t v);
void svc_put_text(json_t *o, const char *key, const char *v);      /* NULL: null */
void svc_put_time(json_t *o, const char *key, int64_t wall_ns);
void svc_put_hex(json_t *o, const char *key, const uint8_t *p, size_t len);
const char *svc_type_word(uint32_t mode);   /* "file" "directory" "symlink" ... */

/* The requests, one function each. */
#define X(name, writes, args) int svc_op_##name(struct svc_req *q, struct err *err);
SVC_OPS(X)
#undef X

/* svc_sync(q, err): store_sync, or nothing for a store opened read-only. svc_settle: and everything durable is applied. */
int svc_sync(struct svc_req *q, struct err *err);
int svc_settle(struct svc_req *q, struct err *err);

/* svc_target(q, out, err): the argument "target", checked; ${out} has room for STANDBY_TARGET_MAX. USAGE. */
int svc_target(const struct svc_req *q, char *out, struct err *err);
/* How all standbys are. */
struct svc_standbys {
    const char *word;           /* Protected, if any is; else for the one that is nearest */
    double rpo_s;               /* its lag; < 0: there is none */
    int exit;                   /* the exit code that says what is wrong with any that a mount ships to, 0 nothing */
};
/* svc_standby_state(q, list, out): the store's standbys into ${list}, and what they come to. */
void svc_standby_state(const struct svc_req *q, json_t *list, struct svc_standbys *out);
/* svc_rpo(s): the setting "rpo" in seconds. */
double svc_rpo(struct store *s);
/* svc_put_trouble(q, target, o): why there is no stream by itself to that target, and when there will be: "reason" "reason_code" "next_try"; the code, 0 none. */
int svc_put_trouble(const struct svc_req *q, const char *target, json_t *o);
/* svc_standby_word(v): the word for a standby as it is. Pure. */
struct svc_standby_view {
    bool paused, live, agreed, booting, caught, stalled, unknown, met;
    int code;                   /* why the last stream ended, 0 */
    double lag_s, rpo_s;
};
const char *svc_standby_word(const struct svc_standby_view *v);
/* svc_word_exit(word): the exit code of `spare status` that goes with such a word. Pure. */
int svc_word_exit(const char *word);
/* svc_wait_standby(q, on, err): until it is durable at that standby. AWAY. */
int svc_wait_standby(struct svc_req *q, const char *on, struct err *err);

/* svc_log_dir(q, path, from, to, limit, err): changes below a directory. */
int svc_log_dir(struct svc_req *q, const char *path, uint64_t from, uint64_t to, uint64_t limit, struct err *err);

/* svc_restoring(r, st): what restore_path calls, of a request: its progress, now and then. svc_put_restored(o, st): what it comes to. */
struct restore_stats;
struct svc_restoring { struct svc_req *q; uint64_t say_ns; };
void svc_restoring(void *arg, const struct restore_stats *st);
void svc_put_restored(json_t *o, const struct restore_stats *st);

/* ---- check ---- */
struct svc_check {
    struct svc_req *q;
    bool read_data;
    uint64_t findings;
    int failed;                 /* emit asked to stop */
    bool of_before[2];          /* svc_check_files: copies of the retained set that are of the lineage before (super_before) */
};
/* svc_name_file(q, ino, lsn, buf, cap): which file that is: by its name now, else by the one it had then, else by its number. */
void svc_name_file(const struct svc_req *q, uint64_t ino, uint64_t lsn, char *buf, size_t cap);
/* svc_finding(c, what, fmt, ...): report one; nonzero when the request should end. */
int svc_finding(struct svc_check *c, const char *what, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* svc_looked(c, what, count): report what was looked at. */
int svc_looked(struct svc_check *c, const char *what, uint64_t count);
int svc_progress(struct svc_check *c, const char *what, uint64_t done, uint64_t total);
int svc_check_files(struct svc_check *c, struct io *io, struct super *sb, struct err *err);
int svc_check_log(struct svc_check *c, struct log *log, uint64_t until, struct err *err);
int svc_check_rows(struct svc_check *c, struct err *err);
int svc_check_tree(struct svc_check *c, struct kv *kv, struct kv_snap *snap, const struct row_meta *meta, struct err *err);

#endif
