/* dump_base.c: a base of the archive as text: its head, and each row as bytes. */
#include "cli/dump_internal.h"
#include "cli/out.h"
#include "store/pack/base.h"

#include <stdlib.h>
#include <string.h>

static const char *name_in(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

bool dump_is_base(const struct dump_in *f, const uint8_t *buf, size_t len)
{
    uint64_t gen;

    return (len >= 8 && memcmp(buf, "SPAREBAS", 8) == 0) || base_parse(name_in(f->path), &gen);
}

static void show_head(const struct base_head *h)
{
    json_t *o = json_object();

    json_object_set_new(o, "file", json_string("base"));
    dump_num(o, "compat", h->compat);
    dump_num(o, "ro_compat", h->ro_compat);
    dump_num(o, "incompat", h->incompat);
    dump_hex(o, "lineage", h->lineage, 16);
    dump_hex(o, "site", h->site, 16);
    dump_hex(o, "epoch_id", h->epoch_id, 16);
    dump_num(o, "hash_alg", h->hash_alg);
    dump_num(o, "generation", h->gen);
    dump_num(o, "applied_lsn", h->applied);
    dump_num(o, "last_lsn", h->last_lsn);
    dump_hex(o, "last_hash", h->last_hash.b, 16);
    dump_num(o, "rows", h->n_rows);
    dump_num(o, "frames", h->n_frames);
    dump_num(o, "retained_generation", h->retained_gen);
    dump_num(o, "let_go_lsn", h->let_go);
    dump_show(o);
}

static void show_row(const struct base_row *r)
{
    const char table[2] = { (char)r->key[0], 0 };
    struct key_parts k;
    json_t *o = json_object();

    json_object_set_new(o, "row", json_string(key_parse(r->key, r->klen, &k) ? (const char[2]){ k.table, 0 } : table));
    dump_hex(o, "key", r->key, r->klen);
    dump_hex(o, "value", r->val, r->vlen);
    dump_show(o);
}

int dump_base(const struct dump_in *f, struct err *err)
{
    char *dir = strdup(f->path);
    const char *name = name_in(f->path);
    struct io *io = NULL;
    struct base *b = NULL;
    struct base_row row;
    struct err bad = { 0 };
    int r = dir ? 0 : err_set(err, ERR_NOMEM, "%s: no memory", f->path);

    if (r == 0) {
        dir[name - f->path] = '\0';
        r = io_posix_new(*dir ? dir : ".", &io, err);
    }
    if (r == 0)
        r = base_open_file(io, name, &b, &bad, err);
    if (r == 0)
        show_head(base_head(b));
    while (r == 0 && (r = base_next(b, &row, err)) == 1) {
        show_row(&row);
        r = out_interrupted ? err_set(err, ERR_INTR, "interrupted") : 0;
    }
    if (r == 0)
        r = base_check(b, err);
    if (r == 0 && bad.code)             /* the rest could be read all the same */
        r = err_set(err, bad.code, "%s", bad.msg);
    base_close(b);
    if (io)
        io->ops->free(io);
    free(dir);
    return r;
}
