#include "store/svc/svc_internal.h"

#include "store/base/bytes.h"
#include "store/core/moment.h"
#include "store/core/retain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct op {
    const char *name;
    bool writes;
    const char *args;           /* names it takes, between blanks */
    int (*run)(struct svc_req *q, struct err *err);
};

static const struct op ops[] = {
#define X(name, writes, args) { #name, writes, args, svc_op_##name },
    SVC_OPS(X)
#undef X
};

static const struct op *find_op(const char *name)
{
    for (size_t i = 0; name && i < sizeof ops / sizeof ops[0]; i++)
        if (strcmp(ops[i].name, name) == 0)
            return &ops[i];
    return NULL;
}

int svc_op_writes(const char *name)
{
    const struct op *op = find_op(name);

    return op ? op->writes : ERR_USAGE;
}

/* takes(op, key): key, or key without _hex, is a word of op->args. */
static bool takes(const struct op *op, const char *key)
{
    size_t klen = strlen(key);
    const char *p = op->args;

    if (klen > 4 && strcmp(key + klen - 4, "_hex") == 0)
        klen -= 4;
    while (*p) {
        size_t n = strcspn(p, " ");

        if (n == klen && memcmp(p, key, n) == 0)
            return true;
        p += n;
        p += strspn(p, " ");
    }
    return false;
}

int svc_call(const struct svc_env *env, const struct caller *who, const json_t *req, const struct svc_stream *stream,
             svc_emit_fn *emit, void *arg, struct err *err)
{
    const char *name = json_string_value(json_object_get(req, "op"));
    const struct op *op = find_op(name);
    struct svc_req q = { .env = env, .s = env->s, .who = who, .args = req, .stream = stream, .emit = emit, .arg = arg };
    struct store_info info;
    void *it;
    int r;

    if (!op)
        return err_set(err, ERR_USAGE, "request %.64s: not known here; is the other side an older version?",
                       name ? name : "without a name");
    for (it = json_object_iter((json_t *)(uintptr_t)req); it;
         it = json_object_iter_next((json_t *)(uintptr_t)req, it)) {
        const char *key = json_object_iter_key(it);

        if (strcmp(key, "op") != 0 && !takes(op, key))
            return err_set(err, ERR_USAGE, "request %s: takes no argument %.64s", op->name, key);
    }
    if (op->writes) {
        store_info(env->s, &info);
        if (!info.writable)
            return err_set(err, ERR_ROFS, "%s: the store is open read-only; %s needs it writable",
                           store_dir(env->s) ? store_dir(env->s) : "store", op->name);
    }
    r = op->run(&q, err);
    for (unsigned i = 0; i < q.n_entered; i++)
        store_leave(env->s, q.entered[i]);
    if (q.stopped)
        return q.stopped;
    return r;
}

int svc_emit(struct svc_req *q, const char *type, json_t *item)
{
    int r;

    if (!item)
        return ERR_NOMEM;
    r = q->stopped ? q->stopped : q->emit(q->arg, type, item, NULL, 0);
    json_decref(item);
    if (r)
        q->stopped = r;
    return r;
}

int svc_emit_data(struct svc_req *q, const void *bin, size_t len)
{
    json_t *none = json_object();
    int r = q->stopped ? q->stopped : q->emit(q->arg, "data", none, bin, len);

    json_decref(none);
    if (r)
        q->stopped = r;
    return r;
}

int svc_sync(struct svc_req *q, struct err *err)
{
    struct store_info info;

    store_info(q->s, &info);
    if (!info.writable)
        return 0;               /* nothing of ours is pending */
    return store_sync(q->s, err);
}

int svc_settle(struct svc_req *q, struct err *err)
{
    struct store_info info;
    struct wait w;
    int r = svc_sync(q, err);

    store_info(q->s, &info);
    if (r || !info.writable)
        return r;
    w = (struct wait){ .kind = WAIT_APPLIED, .addr = info.durable };
    r = store_await(q->s, &w);
    return r ? err_set(err, r, "waiting for the index: %s", err_text(r)) : 0;
}

int svc_arg_text(const struct svc_req *q, const char *key, const char **out, struct err *err)
{
    const json_t *j = json_object_get(q->args, key);

    *out = NULL;
    if (!j || json_is_null(j))
        return 0;
    if (!json_is_string(j))
        return err_set(err, ERR_USAGE, "%s: expected a string", key);
    *out = json_string_value(j);
    return 0;
}

int svc_arg_path(const struct svc_req *q, const char *key, char **out, struct err *err)
{
    return wire_get_bytes(q->args, key, out, err);
}

int svc_arg_bool(const struct svc_req *q, const char *key, bool *out, struct err *err)
{
    const json_t *j = json_object_get(q->args, key);

    *out = false;
    if (!j || json_is_null(j))
        return 0;
    if (!json_is_boolean(j))
        return err_set(err, ERR_USAGE, "%s: expected true or false", key);
    *out = json_is_true(j);
    return 0;
}

int svc_arg_u64(const struct svc_req *q, const char *key, uint64_t fallback, uint64_t *out, struct err *err)
{
    const json_t *j = json_object_get(q->args, key);

    *out = fallback;
    if (!j || json_is_null(j))
        return 0;
    if (!json_is_integer(j) || json_integer_value(j) < 0)
        return err_set(err, ERR_USAGE, "%s: expected a whole number, at least 0", key);
    *out = (uint64_t)json_integer_value(j);
    return 0;
}

int svc_arg_at(struct svc_req *q, const char *key, uint64_t fallback, uint64_t *lsn, struct err *err)
{
    const char *text;
    int r = svc_arg_text(q, key, &text, err);

    if (r)
        return r;
    if (!text) {
        *lsn = fallback;
        return 0;
    }
    r = moment_resolve(q->s, text, lsn, err);
    if (r == 0 && q->n_entered == sizeof q->entered / sizeof q->entered[0])
        r = err_set(err, ERR_USAGE, "%.64s: too many moments in one request", text);
    if (r < 0)
        return r;
    r = store_enter(q->s, *lsn);
    if (r < 0)
        return err_set(err, r, "%.64s: out of memory", text);
    q->entered[q->n_entered++] = *lsn;
    /* it may have been let go of in between */
    return store_lists(q->s, *lsn) ? 0 : err_set(err, ERR_NOMOMENT, "%.64s: this moment is not kept any more", text);
}

void svc_put_u64(json_t *o, const char *key, uint64_t v)
{
    json_object_set_new(o, key, json_integer((json_int_t)v));
}

void svc_put_text(json_t *o, const char *key, const char *v)
{
    if (v)
        wire_set_bytes(o, key, v, strlen(v));
    else
        json_object_set_new(o, key, json_null());
}

void svc_put_time(json_t *o, const char *key, int64_t wall_ns)
{
    char buf[40];

    moment_rfc3339(wall_ns, buf);
    json_object_set_new(o, key, json_string(buf));
}

void svc_put_hex(json_t *o, const char *key, const uint8_t *p, size_t len)
{
    char buf[80];

    hex_put(buf, p, len < sizeof buf / 2 ? len : sizeof buf / 2 - 1);
    json_object_set_new(o, key, json_string(buf));
}

const char *svc_type_word(uint32_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG: return "file";
    case S_IFDIR: return "directory";
    case S_IFLNK: return "symlink";
    case S_IFIFO: return "fifo";
    case S_IFSOCK: return "socket";
    case S_IFCHR: return "character-device";
    case S_IFBLK: return "block-device";
    default: return "unknown";
    }
}
