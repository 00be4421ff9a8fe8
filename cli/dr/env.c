#include "cli/dr/env.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static void one_store(const struct plan_store *s, void (*fn)(void *arg, const char *name, const char *value), void *arg)
{
    char name[96];
    size_t base;

    for (int i = 0; i < 2; i++) {
        base = (size_t)snprintf(name, sizeof name, "%s", i ? "SPARE_MOUNT_" : "SPARE_STORE_");
        snprintf(name + base, sizeof name - base, "%s", s->h.name);
        for (char *c = name + base; *c; c++)
            *c = isalnum((unsigned char)*c) ? (char)toupper((unsigned char)*c) : '_';
        fn(arg, name, i ? s->mount : s->path);
    }
}

void env_each(const struct plan *p, const struct plan_site *site, const struct plan_site *other, void (*fn)(void *arg, const char *name, const char *value), void *arg)
{
    fn(arg, "SPARE_PLAN", p->h.name);
    fn(arg, "SPARE_SITE", site->h.name);
    fn(arg, "SPARE_HOST", site->host ? site->host : "");
    if (other) {
        fn(arg, "SPARE_OTHER_SITE", other->h.name);
        fn(arg, "SPARE_OTHER_HOST", other->host ? other->host : "");
    }
    fn(arg, "SPARE_STORE", site->stores.v[0].path);
    fn(arg, "SPARE_MOUNT", site->stores.v[0].mount);
    for (unsigned i = 0; i < site->stores.n; i++)
        one_store(&site->stores.v[i], fn, arg);
}

void env_quote(FILE *f, const char *word)
{
    const char *c = word;

    while (*c && (isalnum((unsigned char)*c) || strchr("_-./:=@,+%", *c)))
        c++;
    if (*word && !*c) {
        fputs(word, f);
        return;
    }
    putc('\'', f);
    for (c = word; *c; c++)
        if (*c == '\'')
            fputs("'\\''", f);
        else
            putc(*c, f);
    putc('\'', f);
}

char *env_quoted(const char *word)
{
    char *out = NULL;
    size_t len = 0;
    FILE *m = open_memstream(&out, &len);

    if (!m)
        return NULL;
    env_quote(m, word);
    if (fclose(m)) {
        free(out);
        return NULL;
    }
    return out;
}
