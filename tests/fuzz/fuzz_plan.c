/* fuzz_plan: any bytes as a disaster recovery plan. What is refused says where and why; what is taken has an order, and its words name something. */
#include "cli/dr/message.h"
#include "cli/dr/plan.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void look(const struct plan *p)
{
    must(p->systems.n > 0 && p->sites.n >= 2 && plan_site(p, p->primary) != NULL);
    for (unsigned i = 0; i < p->systems.n; i++) {
        const struct plan_system *s = &p->systems.v[i];

        must(s->wave < p->systems.n && s->critical >= 1 && s->critical <= 9);
        for (unsigned k = 0; k < s->depends.n; k++)
            must(plan_system(p, s->depends.v[k].h.name)->wave < s->wave);
    }
    for (unsigned i = 0; i < p->messages.n; i++) {
        struct figures f = { .v = { "a" } };

        free(message_fill(p->messages.v[i].text, &f));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct problems p = { .file = "plan" };
    struct plan *plan = NULL;
    struct err err = { 0 };
    char *text = malloc(size ? size : 1);
    int r;

    must(text != NULL);
    memcpy(text, data, size);
    r = plan_parse(text, size, &plan, &p, &err);
    must((r == 0) == (plan != NULL) && (r == 0) == (p.n == 0));
    for (unsigned i = 0; i < p.n; i++)
        must(strncmp(p.text[i], "plan:", 5) == 0 && strstr(p.text[i], "expected ") && strstr(p.text[i], ", found "));
    if (plan)
        look(plan);
    plan_free(plan);
    problems_release(&p);
    free(text);
    return 0;
}
