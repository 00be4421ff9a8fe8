/* env.h: what a plan's commands find in their environment, and how words are written for a shell. */
#ifndef CLI_DR_ENV_H
#define CLI_DR_ENV_H

#include "cli/dr/plan.h"

#include <stdio.h>

/*
 * env_each(plan, site, other, fn, arg): NAME and value of each variable a command for ${site} gets: SPARE_PLAN, SPARE_SITE, SPARE_HOST, SPARE_OTHER_SITE, SPARE_OTHER_HOST, SPARE_STORE and SPARE_MOUNT
 * (of the first store), and SPARE_STORE_NAME, SPARE_MOUNT_NAME for each store, its name in capitals, what is no letter or digit a '_'. ${other} NULL: those are left out.
 */
void env_each(const struct plan *p, const struct plan_site *site, const struct plan_site *other, void (*fn)(void *arg, const char *name, const char *value), void *arg);

/* env_quote(f, word): as a shell reads it back. Plain where nothing needs quotes. */
void env_quote(FILE *f, const char *word);
/* env_quoted(word): malloced; NULL: no memory. */
char *env_quoted(const char *word);

#endif
