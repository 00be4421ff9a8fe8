/* svc_scrub.c: the request "scrub": all data are read, and what is damaged is healed by another site, where one is met meanwhile. */
#include "store/svc/svc_internal.h"

#include "store/maint/scrub.h"
#include "store/pack/packs.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { NICE = 15, LOOK_MS = 250, PATIENCE = 60 };       /* so often nothing was healed: nobody heals */

struct work { struct svc_req *q; struct wound *bad; size_t n; bool nomem; uint64_t records; char said[1024]; };

static int asked_to_stop(void *arg)
{
    return ((struct work *)arg)->q->stopped;
}

static void tell(void *arg, uint64_t done, uint64_t total)
{
    struct work *c = arg;
    json_t *o = json_object();

    svc_put_text(o, "what", "reading");
    svc_put_u64(o, "done", done);
    svc_put_u64(o, "total", total);
    (void)svc_emit(c->q, "progress", o);
}

static void found(void *arg, const struct wound *w, uint64_t ino, const char *message)
{
    struct work *c = arg;
    char file[PATH_MAX + 32], text[PATH_MAX + 1200];
    json_t *o = json_object();

    if (w->len == 0 && w->until == 0 && !w->hole)
        c->records++;
    else if (c->n % WOUNDS_MAX == 0) {
        struct wound *p = realloc(c->bad, (c->n + WOUNDS_MAX) * sizeof *p);

        c->nomem |= p == NULL;
        c->bad = p != NULL ? p : c->bad;
    }
    if ((w->len > 0 || w->until > 0 || w->hole) && !c->nomem)
        c->bad[c->n++] = *w;
    if (strcmp(c->said, message) == 0) { /* many data lie in one chunk of a pack; it is said once, with the first */
        json_decref(o);
        return;
    }
    snprintf(c->said, sizeof c->said, "%s", message);
    snprintf(text, sizeof text, "%s", message);
    if (w->len > 0) {
        svc_name_file(c->q, ino, w->lsn, file, sizeof file);
        snprintf(text, sizeof text, "%s (LSN %llu: %s)", message, (unsigned long long)w->lsn, file);
    }
    svc_put_text(o, "kind", "finding");
    svc_put_text(o, "message", text);
    svc_put_u64(o, "lsn", w->lsn);
    (void)svc_emit(c->q, "item", o);
}

static uint64_t still_bad(struct work *c, uint8_t *buf)
{
    uint64_t n = 0;

    for (size_t i = 0; i < c->n; i++)
        n += !scrub_place(c->q->s, &c->bad[i], buf);
    return n;
}

/* Whoever has another copy is asked by the streams of this process, one place after the other. */
static uint64_t wait_for_healing(struct work *c)
{
    const struct timespec nap = { 0, LOOK_MS * 1000000L };
    uint8_t *buf = c->n > 0 ? malloc(PACK_CHUNK_MAX) : NULL;
    uint64_t bad = c->n;
    struct wounds_count was, is;
    struct wound w;

    if (buf == NULL)                     /* (without memory to look again: as it was found) */
        return bad;
    wounds_count(c->q->s, &was);
    for (int quiet = 0; c->q->env->links != NULL && quiet < PATIENCE && !c->q->stopped && wounds_first(c->q->s, &w); quiet++) {
        nanosleep(&nap, NULL);
        wounds_count(c->q->s, &is);
        if (is.healed + is.given_up != was.healed + was.given_up)
            quiet = 0;
        was = is;
        tell(c, is.healed + is.given_up, is.noted);
    }
    bad = still_bad(c, buf);
    free(buf);
    return bad;
}

int svc_op_scrub(struct svc_req *q, struct err *err)
{
    struct work c = { .q = q };
    struct scrub_options opt = { .gentle = q->env->mount_dir != NULL, .stop = asked_to_stop, .tell = tell, .found = found, .arg = &c };
    struct scrub_result res;
    uint64_t bad = 0;
    json_t *o;
    int r = svc_arg_bool(q, "again", &opt.again, err);

    if (r == 0)
        r = svc_arg_bool(q, "close_gaps", &opt.close, err);
    if (opt.gentle)                      /* the thread is this client's alone, and a mount has others to serve */
        (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
    if (r == 0)
        r = svc_settle(q, err);
    if (r == 0)
        r = scrub(q->s, &opt, &res, err);
    if (r == 0 && c.nomem)
        r = err_set(err, ERR_NOMEM, "scrub: no memory for what was found");
    if (r == 0)
        bad = wait_for_healing(&c) + c.records - (c.records > res.mended ? res.mended : c.records);
    free(c.bad);
    if (r)
        return r;
    o = json_object();
    svc_put_text(o, "kind", "result");
    svc_put_u64(o, "from_lsn", res.from);
    svc_put_u64(o, "to_lsn", res.to);
    svc_put_u64(o, "bytes", res.bytes);
    svc_put_u64(o, "damaged", res.damaged);
    svc_put_u64(o, "healed", res.damaged - bad);
    r = svc_emit(q, "item", o);
    if (r || bad == 0)
        return r;
    return err_set(err, ERR_DAMAGE, "%s: expected data without damage, found %llu places that no other site has healed%s. Files that do not use them are whole; keep a copy of the store",
                   store_dir(q->s), (unsigned long long)bad,
                   q->env->links != NULL ? "" : ": this store is not mounted. Mount it where its standby, or its primary, is met, and scrub again");
}
