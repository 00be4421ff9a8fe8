/* tree.c: YAML text as a tree with places, by libyaml's events. */
#include "cli/dr/tree.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

/* ---- memory ---- */

struct arena_block { struct arena_block *next; };

void *arena_get(struct arena *a, size_t len)
{
    struct arena_block *b = calloc(1, sizeof *b + len);

    if (!b)
        return NULL;
    b->next = a->blocks;
    a->blocks = b;
    return b + 1;
}

char *arena_text(struct arena *a, const char *text, size_t len)
{
    char *p = arena_get(a, len + 1);

    if (p)
        memcpy(p, text, len);
    return p;
}

void arena_release(struct arena *a)
{
    for (struct arena_block *b = a->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    a->blocks = NULL;
}

/* ---- what is wrong ---- */

void problem_add(struct problems *p, struct mark at, const char *fmt, ...)
{
    char msg[ERR_MSG_MAX];
    va_list ap;

    if (p->n == TREE_MAX_PROBLEMS)
        return;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    /* It may go to a terminal. */
    for (char *c = msg; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    if (asprintf(&p->text[p->n], "%s:%u:%u: %s", p->file, at.line, at.column, msg) < 0) {
        p->text[p->n] = NULL;
        return;
    }
    p->at[p->n++] = at;
}

void problems_sort(struct problems *p)
{
    /* By insertion: there are few. */
    for (unsigned i = 1; i < p->n; i++)
        for (unsigned k = i; k > 0; k--) {
            const struct mark *a = &p->at[k - 1], *b = &p->at[k];
            struct mark m = *b;
            char *t = p->text[k];

            if (a->line < b->line || (a->line == b->line && a->column <= b->column))
                break;
            p->at[k] = *a;
            p->at[k - 1] = m;
            p->text[k] = p->text[k - 1];
            p->text[k - 1] = t;
        }
}

void problems_release(struct problems *p)
{
    for (unsigned i = 0; i < p->n; i++)
        free(p->text[i]);
    p->n = 0;
}

/* ---- reading ---- */

struct reader {
    yaml_parser_t parser;
    struct arena *a;
    struct problems *p;
    unsigned nodes;
    bool no_memory;
};

static struct mark mark_of(yaml_mark_t m)
{
    return (struct mark){ (unsigned)m.line + 1, (unsigned)m.column + 1 };
}

const char *tree_kind_text(const struct tree *t)
{
    static char buf[96];
    size_t len;

    if (t->kind != TREE_SCALAR)
        return t->kind == TREE_MAP ? "a mapping" : "a list";
    if (t->plain && t->text[0] == '\0')
        return "nothing";
    len = strcspn(t->text, "\n");
    if (len > 60) {
        len = 60;
        while (len > 0 && ((unsigned char)t->text[len] & 0xc0) == 0x80)
            len--;
    }
    snprintf(buf, sizeof buf, "\"%.*s%s\"", (int)len, t->text, t->text[len] ? "..." : "");
    return buf;
}

/* Where libyaml's reader stopped: it knows the offset only. */
static struct mark mark_of_offset(const char *text, size_t len, size_t offset)
{
    struct mark m = { 1, 1 };

    for (size_t i = 0; i < len && i < offset; i++) {
        if (text[i] == '\n')
            m = (struct mark){ m.line + 1, 1 };
        else if (((unsigned char)text[i] & 0xc0) != 0x80)
            m.column++;
    }
    return m;
}

static void syntax(struct reader *r, const char *text, size_t len)
{
    const yaml_parser_t *y = &r->parser;
    struct mark at = mark_of(y->problem_mark);

    if (y->error == YAML_MEMORY_ERROR) {
        r->no_memory = true;
        return;
    }
    if (y->error == YAML_READER_ERROR)
        problem_add(r->p, mark_of_offset(text, len, y->problem_offset), "expected text in UTF-8, found %s", y->problem);
    else if (y->context)
        problem_add(r->p, at, "expected YAML, found a fault %s that begins in line %u: %s", y->context, mark_of(y->context_mark).line, y->problem);
    else
        problem_add(r->p, at, "expected YAML, found a fault: %s", y->problem ? y->problem : "unknown");
}

static struct tree *node(struct reader *r, enum tree_kind kind, struct mark at)
{
    struct tree *t = NULL;

    if (++r->nodes > TREE_MAX_NODES) {
        problem_add(r->p, at, "expected at most %d items in a plan, found more", TREE_MAX_NODES);
        return NULL;
    }
    t = arena_get(r->a, sizeof *t);
    if (!t)
        r->no_memory = true;
    else
        *t = (struct tree){ .kind = kind, .at = at, .text = "" };
    return t;
}

/* What YAML has and a plan has not. */
static bool plain_yaml(struct reader *r, const yaml_event_t *e)
{
    const struct mark at = mark_of(e->start_mark);
    const yaml_char_t *anchor = NULL, *tag = NULL;

    switch (e->type) {
    case YAML_ALIAS_EVENT:
        problem_add(r->p, at, "expected a value, found the alias \"*%s\"; a plan says each thing where it holds", (const char *)e->data.alias.anchor);
        return false;
    case YAML_SCALAR_EVENT: anchor = e->data.scalar.anchor; tag = e->data.scalar.tag; break;
    case YAML_SEQUENCE_START_EVENT: anchor = e->data.sequence_start.anchor; tag = e->data.sequence_start.tag; break;
    case YAML_MAPPING_START_EVENT: anchor = e->data.mapping_start.anchor; tag = e->data.mapping_start.tag; break;
    default: break;
    }
    if (anchor)
        problem_add(r->p, at, "expected a value, found the anchor \"&%s\"; a plan says each thing where it holds", (const char *)anchor);
    else if (tag)
        problem_add(r->p, at, "expected a value, found the tag \"%s\"", (const char *)tag);
    return !anchor && !tag;
}

static struct tree *scalar(struct reader *r, const yaml_event_t *e)
{
    const char *v = (const char *)e->data.scalar.value;
    struct tree *t;

    if (strlen(v) != e->data.scalar.length) {
        problem_add(r->p, mark_of(e->start_mark), "expected text, found a NUL character in it");
        return NULL;
    }
    t = node(r, TREE_SCALAR, mark_of(e->start_mark));
    if (!t)
        return NULL;
    t->plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (t->plain && (strcmp(v, "~") == 0 || strcmp(v, "null") == 0))
        v = "";
    t->text = arena_text(r->a, v, strlen(v));
    r->no_memory |= !t->text;
    return t->text ? t : NULL;
}

static bool known_key(struct reader *r, const struct tree *map, const struct tree *key)
{
    for (const struct tree *c = map->first; c; c = c->next)
        if (strcmp(c->key, key->text) == 0) {
            problem_add(r->p, key->at, "expected each key once, found \"%.60s\" again (it is in line %u, too)", key->text, c->key_at.line);
            return true;
        }
    return false;
}

static struct tree *value(struct reader *r, const char *text, size_t len, yaml_event_t *e, unsigned depth);

/* The next event, or false with what is wrong. */
static bool next(struct reader *r, const char *text, size_t len, yaml_event_t *e)
{
    if (yaml_parser_parse(&r->parser, e)) {
        if (plain_yaml(r, e))
            return true;
        yaml_event_delete(e);
        return false;
    }
    syntax(r, text, len);
    return false;
}

/* A list, or a map: its children up to its end. */
static struct tree *children(struct reader *r, const char *text, size_t len, struct tree *t, unsigned depth)
{
    struct tree **last = &t->first;
    yaml_event_t e;

    for (;;) {
        struct tree *key = NULL, *v;

        if (!next(r, text, len, &e))
            return NULL;
        if (e.type == YAML_MAPPING_END_EVENT || e.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&e);
            return t;
        }
        if (t->kind == TREE_MAP) {
            bool text_key = e.type == YAML_SCALAR_EVENT;

            key = text_key ? scalar(r, &e) : NULL;
            if (!text_key)
                problem_add(r->p, mark_of(e.start_mark), "expected a word as key, found %s", e.type == YAML_MAPPING_START_EVENT ? "a mapping" : "a list");
            yaml_event_delete(&e);
            if (!key || known_key(r, t, key) || !next(r, text, len, &e))
                return NULL;
        }
        v = value(r, text, len, &e, depth + 1);
        if (!v)
            return NULL;
        if (key) {
            v->key = key->text;
            v->key_at = key->at;
        }
        *last = v;
        last = &v->next;
    }
}

/* Takes ${e}. */
static struct tree *value(struct reader *r, const char *text, size_t len, yaml_event_t *e, unsigned depth)
{
    const struct mark at = mark_of(e->start_mark);
    struct tree *t = NULL;

    if (e->type == YAML_SCALAR_EVENT)
        t = scalar(r, e);
    else if (depth >= TREE_MAX_DEPTH)
        problem_add(r->p, at, "expected at most %d levels, found more", TREE_MAX_DEPTH);
    else
        t = node(r, e->type == YAML_MAPPING_START_EVENT ? TREE_MAP : TREE_LIST, at);
    yaml_event_delete(e);
    return t && t->kind != TREE_SCALAR ? children(r, text, len, t, depth) : t;
}

static void documents(struct reader *r, const char *text, size_t len, struct tree **out)
{
    yaml_event_t e;

    for (;;) {
        yaml_event_type_t type;

        if (!next(r, text, len, &e))
            return;
        type = e.type;
        if (type == YAML_SCALAR_EVENT || type == YAML_MAPPING_START_EVENT || type == YAML_SEQUENCE_START_EVENT) {
            if (!*out) {
                *out = value(r, text, len, &e, 0);
                if (!*out)
                    return;
                continue;
            }
            problem_add(r->p, mark_of(e.start_mark), "expected one document, found another one");
            type = YAML_STREAM_END_EVENT;
        }
        yaml_event_delete(&e);
        if (type == YAML_STREAM_END_EVENT)
            return;
    }
}

int tree_read(const char *text, size_t len, struct arena *a, struct tree **out, struct problems *p)
{
    struct reader r = { .a = a, .p = p };
    unsigned before = p->n;

    *out = NULL;
    if (len > TREE_MAX_BYTES) {
        problem_add(p, (struct mark){ 1, 1 }, "expected a plan of at most %d KiB, found %zu", TREE_MAX_BYTES / 1024, len / 1024 + 1);
        return ERR_USAGE;
    }
    if (!yaml_parser_initialize(&r.parser))
        return ERR_NOMEM;
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
    documents(&r, text, len, out);
    yaml_parser_delete(&r.parser);
    if (r.no_memory)
        return ERR_NOMEM;
    return p->n > before ? ERR_USAGE : 0;
}
