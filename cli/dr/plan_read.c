/* plan_read.c: a tree becomes a plan, by the tables of plan_schema.c. */
#include "cli/dr/plan_internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_BYTES = 64 };

struct filling {
    struct arena *a;
    struct problems *p;
    bool no_memory;
};

static const struct { const char *unit; int64_t ms; } units[] = {
    { "y", 365 * (int64_t)86400000 }, { "w", 7 * (int64_t)86400000 }, { "d", 86400000 }, { "h", 3600000 }, { "m", 60000 }, { "s", 1000 }, { "ms", 1 },
};
enum { N_UNITS = sizeof units / sizeof units[0] };

bool plan_duration_parse(const char *text, int64_t *ms)
{
    unsigned long long v;
    char *end;

    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    v = strtoull(text, &end, 10);
    for (unsigned i = 0; i < N_UNITS; i++)
        if (strcmp(end, units[i].unit) == 0) {
            if (errno || v > (unsigned long long)(INT64_MAX / units[i].ms))
                return false;
            *ms = (int64_t)v * units[i].ms;
            return true;
        }
    /* "0" needs no unit. */
    *ms = 0;
    return v == 0 && errno == 0 && *end == '\0';
}

const char *plan_duration(int64_t ms, char buf[32])
{
    if (ms < 0)
        return strcpy(buf, "-");
    if (ms == 0)
        return strcpy(buf, "0s");
    for (unsigned i = 2; i < N_UNITS; i++)
        if (ms % units[i].ms == 0) {
            snprintf(buf, 32, "%lld%s", (long long)(ms / units[i].ms), units[i].unit);
            break;
        }
    return buf;
}

static void wrong(struct filling *f, const struct field *d, const struct tree *t, const char *what)
{
    problem_add(f->p, t->at, "expected %s for %s, found %s", what, d->key, tree_kind_text(t));
}

static bool is_name(const char *s)
{
    size_t n = strlen(s);

    if (n == 0 || n > NAME_MAX_BYTES || !isalnum((unsigned char)s[0]))
        return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && !strchr("._-", *s))
            return false;
    return true;
}

static bool is_line(const char *s)
{
    if (!*s)
        return false;
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            return false;
    return true;
}

static bool is_text(const char *s)
{
    bool any = false;

    for (; *s; s++) {
        any |= !isspace((unsigned char)*s);
        if (((unsigned char)*s < 0x20 && *s != '\n' && *s != '\t') || *s == 0x7f)
            return false;
    }
    return any;
}

/* 32 bytes: 43 characters and a '='. */
static bool is_key(const char *s)
{
    if (strlen(s) != 44 || s[43] != '=')
        return false;
    for (int i = 0; i < 43; i++)
        if (!isalnum((unsigned char)s[i]) && !strchr("+/", s[i]))
            return false;
    return true;
}

static bool is_url(const char *s)
{
    const char *host = strncmp(s, "http://", 7) == 0 ? s + 7 : strncmp(s, "https://", 8) == 0 ? s + 8 : "";

    return is_line(s) && *host && *host != '/' && !strchr(s, ' ') && !strchr(s, '"');
}

static void fill_text(struct filling *f, const struct field *d, const struct tree *t, const char **out)
{
    static const char *const what[] = {
        [FIELD_LINE] = "a line of text", [FIELD_TEXT] = "text", [FIELD_NAME] = "a name of letters, digits and . _ - (64 at most)",
        [FIELD_PATH] = "an absolute path", [FIELD_URL] = "an address with http:// or https://", [FIELD_KEY] = "a key of 32 bytes in base64",
    };
    bool ok = t->kind == TREE_SCALAR;

    switch (ok ? d->type : FIELD_BOOL) {
    case FIELD_LINE: ok = is_line(t->text); break;
    case FIELD_TEXT: ok = is_text(t->text); break;
    case FIELD_NAME: ok = is_name(t->text); break;
    case FIELD_PATH: ok = is_line(t->text) && t->text[0] == '/'; break;
    case FIELD_URL: ok = is_url(t->text); break;
    case FIELD_KEY: ok = is_key(t->text); break;
    default: ok = false; break;
    }
    if (ok)
        *out = t->text;
    else
        wrong(f, d, t, what[d->type]);
}

static void fill_whole(struct filling *f, const struct field *d, const struct tree *t, int64_t *out)
{
    char what[96];
    char *end = NULL;
    long long v = 0;

    errno = 0;
    if (t->kind == TREE_SCALAR && t->plain && (isdigit((unsigned char)t->text[0]) || t->text[0] == '-'))
        v = strtoll(t->text, &end, 10);
    if (end && *end == '\0' && errno == 0 && v >= d->min && v <= d->max) {
        *out = v;
        return;
    }
    if (d->min == d->max)
        snprintf(what, sizeof what, "%lld", (long long)d->min);
    else
        snprintf(what, sizeof what, "a whole number from %lld to %lld", (long long)d->min, (long long)d->max);
    wrong(f, d, t, what);
}

static void fill_duration(struct filling *f, const struct field *d, const struct tree *t, int64_t *out)
{
    char what[128], a[32], b[32];
    int64_t v = 0;

    if (t->kind != TREE_SCALAR || !plan_duration_parse(t->text, &v)) {
        wrong(f, d, t, "a time such as 500ms, 15s, 5m, 2h or 7d");
    } else if (v < d->min || v > d->max) {
        snprintf(what, sizeof what, "a time from %s to %s", plan_duration(d->min, a), plan_duration(d->max, b));
        wrong(f, d, t, what);
    } else {
        *out = v;
    }
}

static void fill_choice(struct filling *f, const struct field *d, const struct tree *t, int64_t *out)
{
    char what[128] = "";
    int64_t i = 0;

    for (const char *w = d->words; w; i++) {
        size_t n = strcspn(w, "|"), have = strlen(what);

        if (t->kind == TREE_SCALAR && strlen(t->text) == n && strncmp(t->text, w, n) == 0) {
            *out = i;
            return;
        }
        snprintf(what + have, sizeof what - have, "%s%.*s", !have ? "" : w[n] ? ", " : " or ", (int)n, w);
        w = w[n] ? w + n + 1 : NULL;
    }
    wrong(f, d, t, what);
}

static void fill_bool(struct filling *f, const struct field *d, const struct tree *t, bool *out)
{
    if (t->kind == TREE_SCALAR && t->plain && strcmp(t->text, "true") == 0)
        *out = true;
    else if (t->kind == TREE_SCALAR && t->plain && strcmp(t->text, "false") == 0)
        *out = false;
    else
        wrong(f, d, t, "true or false");
}

static void fill_map(struct filling *f, const struct schema *s, const struct tree *t, void *out);

/* A mapping, or a line where that is a command alone. */
static void fill_entry(struct filling *f, const struct schema *s, const struct tree *t, void *out)
{
    struct plan_head *h = out;

    h->at = t->at;
    if (!h->name)
        h->name = "";
    if (s->commands && t->kind == TREE_SCALAR && is_text(t->text)) {
        for (unsigned i = 0; i < s->n; i++)
            if (s->fields[i].type == FIELD_WHOLE || s->fields[i].type == FIELD_DURATION)
                *(int64_t *)(void *)((char *)out + s->fields[i].at) = s->fields[i].unless;
        ((struct plan_command *)out)->command = t->text;
        return;
    }
    if (t->kind != TREE_MAP) {
        problem_add(f->p, t->at, "expected %s as a mapping%s, found %s", s->what, s->commands ? " or a command line" : "", tree_kind_text(t));
        return;
    }
    fill_map(f, s, t, out);
}

struct any_list { void *v; unsigned n; };

/* Entries by name, items of a list, or words. */
static void fill_list(struct filling *f, const struct field *d, const struct tree *t, struct any_list *out)
{
    const bool named = d->type == FIELD_ENTRIES;
    const size_t size = d->sub ? d->sub->size : sizeof (struct plan_word);
    unsigned n = 0, i = 0;

    if (t->kind != (named ? TREE_MAP : TREE_LIST)) {
        wrong(f, d, t, named ? "a mapping by name" : "a list");
        return;
    }
    for (const struct tree *c = t->first; c; c = c->next)
        n++;
    if (n < (unsigned)d->min || n > (unsigned)d->max) {
        problem_add(f->p, t->at, "expected %lld to %lld entries in %s, found %u", (long long)d->min, (long long)d->max, d->key, n);
        return;
    }
    out->v = n ? arena_get(f->a, n * size) : NULL;
    if (n && !out->v) {
        f->no_memory = true;
        return;
    }
    out->n = n;
    for (const struct tree *c = t->first; c; c = c->next, i++) {
        struct plan_head *h = (struct plan_head *)(void *)((char *)out->v + i * size);

        h->at = named ? c->key_at : c->at;
        h->name = named ? c->key : "";
        if (named && !is_name(c->key))
            problem_add(f->p, c->key_at, "expected a name of letters, digits and . _ - (64 at most) in %s, found \"%.60s\"", d->key, c->key);
        if (d->sub)
            fill_entry(f, d->sub, c, h);
        else if (c->kind == TREE_SCALAR && is_line(c->text))
            h->name = c->text;
        else
            wrong(f, d, c, "a line of text");
        if (named)
            h->at = c->key_at;
    }
}

static void fill_field(struct filling *f, const struct field *d, const struct tree *t, void *out)
{
    switch (d->type) {
    case FIELD_WHOLE: fill_whole(f, d, t, out); break;
    case FIELD_DURATION: fill_duration(f, d, t, out); break;
    case FIELD_BOOL: fill_bool(f, d, t, out); break;
    case FIELD_CHOICE: fill_choice(f, d, t, out); break;
    case FIELD_PART:
    case FIELD_COMMAND: fill_entry(f, d->sub, t, out); break;
    case FIELD_ENTRIES:
    case FIELD_ITEMS:
    case FIELD_WORDS: fill_list(f, d, t, out); break;
    default: fill_text(f, d, t, out); break;
    }
}

static const struct tree *child(const struct tree *t, const char *key)
{
    for (const struct tree *c = t->first; c; c = c->next)
        if (strcmp(c->key, key) == 0)
            return c;
    return NULL;
}

/* What holds without the key, also in a part that is not there. */
static void defaults(const struct schema *s, void *out)
{
    for (unsigned i = 0; i < s->n; i++) {
        const struct field *d = &s->fields[i];
        void *to = (char *)out + d->at;

        if (d->type == FIELD_WHOLE || d->type == FIELD_DURATION)
            *(int64_t *)to = d->unless;
        else if (d->type == FIELD_PART || d->type == FIELD_COMMAND)
            defaults(d->sub, to);
    }
}

static void fill_map(struct filling *f, const struct schema *s, const struct tree *t, void *out)
{
    char keys[512] = "";

    defaults(s, out);
    for (const struct tree *c = t->first; c; c = c->next) {
        unsigned i = 0;

        while (i < s->n && strcmp(s->fields[i].key, c->key) != 0)
            i++;
        if (i < s->n) {
            fill_field(f, &s->fields[i], c, (char *)out + s->fields[i].at);
            continue;
        }
        keys[0] = '\0';
        for (i = 0; i < s->n; i++)
            snprintf(keys + strlen(keys), sizeof keys - strlen(keys), "%s%s", i ? ", " : "", s->fields[i].key);
        problem_add(f->p, c->key_at, "expected a key of %s (%s), found \"%.60s\"", s->what, keys, c->key);
    }
    for (unsigned i = 0; i < s->n; i++)
        if (s->fields[i].required && !child(t, s->fields[i].key))
            problem_add(f->p, t->at, "expected the key %s in %s, found none", s->fields[i].key, s->what);
}

int plan_fill(const struct tree *root, struct plan *plan, struct problems *p)
{
    struct filling f = { &plan->arena, p, false };

    if (!root || root->kind != TREE_MAP)
        problem_add(p, root ? root->at : (struct mark){ 1, 1 }, "expected a plan as a mapping, found %s", root ? tree_kind_text(root) : "nothing");
    else
        fill_entry(&f, &schema_plan, root, plan);
    return f.no_memory ? ERR_NOMEM : 0;
}

int plan_parse(const char *text, size_t len, struct plan **out, struct problems *p, struct err *err)
{
    struct plan *plan = calloc(1, sizeof *plan);
    int r = plan ? tree_read(text, len, &plan->arena, &plan->root, p) : ERR_NOMEM;

    if (r == 0)
        r = plan_fill(plan->root, plan, p);
    if (r == 0 && p->n == 0)
        r = plan_check(plan, p);
    if (r == 0 && p->n > 0)
        r = ERR_USAGE;
    problems_sort(p);
    if (r == ERR_USAGE && p->n > 0)
        err_set(err, r, "%s", p->text[0]);
    else if (r)
        err_set(err, ERR_NOMEM, "%s: no memory", p->file);
    if (r)
        plan_free(plan);
    else
        *out = plan;
    return r;
}

void plan_free(struct plan *p)
{
    if (!p)
        return;
    struct arena a = p->arena;

    free(p);
    arena_release(&a);
}
