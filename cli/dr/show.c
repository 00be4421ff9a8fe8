/* show.c: `dr plan show`: the order in which it all comes back. */
#include "cli/dr/dr.h"

#include <string.h>

static json_t *system_object(const struct plan *p, const struct plan_system *s)
{
    json_t *o = json_object(), *deps = json_array();

    json_object_set_new(o, "system", json_string(s->h.name));
    json_object_set_new(o, "wave", json_integer(s->wave + 1));
    json_object_set_new(o, "critical", json_integer(s->critical));
    for (unsigned i = 0; i < s->depends.n; i++)
        json_array_append_new(deps, json_string(s->depends.v[i].h.name));
    json_object_set_new(o, "depends", deps);
    if (s->max_outage_ms >= 0)
        json_object_set_new(o, "max_outage_ms", json_integer(s->max_outage_ms));
    if (plan_rto(p, s) >= 0)
        json_object_set_new(o, "rto_ms", json_integer(plan_rto(p, s)));
    if (plan_rpo(p, s) >= 0)
        json_object_set_new(o, "rpo_ms", json_integer(plan_rpo(p, s)));
    json_object_set_new(o, "start", json_boolean(s->start.command != NULL));
    json_object_set_new(o, "health", json_boolean(s->health.command != NULL));
    json_object_set_new(o, "manual_steps", json_integer(s->manual.n));
    return o;
}

static void show_head(const struct plan *p, const struct plan_source *src)
{
    char a[32], b[32], c[32];

    out_text("%s%s%s\n", p->h.name, p->title ? ": " : "", p->title ? p->title : "");
    out_text("from        %s\n", out_name(src->from));
    for (unsigned i = 0; i < p->sites.n; i++) {
        const struct plan_site *s = &p->sites.v[i];

        out_text("%s%s%s, %s", i ? "            " : "sites       ", s->h.name, strcmp(s->h.name, p->primary) == 0 ? " (primary)" : "", s->host ? s->host : "this machine");
        for (unsigned k = 0; k < s->stores.n; k++)
            out_text("; %s %s at %s", s->stores.v[k].h.name, s->stores.v[k].path, s->stores.v[k].mount);
        out_text("\n");
    }
    out_text("objectives  RPO %s, RTO %s, retention %s\n", plan_duration(p->objectives.rpo_ms, a), plan_duration(p->objectives.rto_ms, b),
             plan_duration(p->objectives.retention_ms, c));
}

static void show_system(const struct plan *p, const struct plan_system *s)
{
    char a[32], b[32];

    out_text("    %-20s critical %lld, RTO %s, max-outage %s", s->h.name, (long long)s->critical, plan_duration(plan_rto(p, s), a), plan_duration(s->max_outage_ms, b));
    for (unsigned i = 0; i < s->depends.n; i++)
        out_text("%s%s", i ? ", " : "; after ", s->depends.v[i].h.name);
    for (unsigned i = 0; i < s->manual.n; i++)
        out_text("; a person: %s", s->manual.v[i].h.name);
    out_text("%s\n", s->health.command ? "" : "; no health check");
}

static void show_order(const struct plan *p)
{
    for (unsigned w = 0; w < plan_waves(p); w++) {
        out_text("wave %u\n", w + 1);
        /* The most critical ones first. */
        for (int64_t c = 1; c <= 9; c++)
            for (unsigned i = 0; i < p->systems.n; i++)
                if (p->systems.v[i].wave == w && p->systems.v[i].critical == c)
                    show_system(p, &p->systems.v[i]);
    }
    for (unsigned i = 0; i < p->traffic.n; i++)
        out_text("%s%s", i ? ", " : "then traffic: ", p->traffic.v[i].h.name);
    out_text("%s", p->traffic.n ? "\n" : "");
}

static void show_people(const struct plan *p)
{
    char a[32];

    for (unsigned i = 0; i < p->escalation.n; i++) {
        const struct plan_rung *r = &p->escalation.v[i];

        out_text(i ? "            " : "told        ");
        for (unsigned k = 0; k < r->who.n; k++) {
            const struct plan_person *who = plan_person(p, r->who.v[k].h.name);

            out_text("%s%s (%s%s)", k ? ", " : "", who->h.name, who->role, who->decides ? ", decides" : "");
        }
        out_text("; the next ones after %s of silence\n", plan_duration(r->wait_ms, a));
    }
}

int dr_plan_show(const struct dr_options *o)
{
    struct plan_source src = { 0 };
    struct plan *p = NULL;
    struct err err = { 0 };
    int r = plan_load(o->plan, &src, &p, &err);

    if (r)
        return out_error(&err, r);
    if (out_json) {
        for (unsigned w = 0; w < plan_waves(p); w++)
            for (unsigned i = 0; i < p->systems.n; i++)
                if (p->systems.v[i].wave == w) {
                    json_t *j = system_object(p, &p->systems.v[i]);

                    out_object(j);
                    json_decref(j);
                }
    } else {
        show_head(p, &src);
        show_order(p);
        show_people(p);
    }
    plan_free(p);
    plan_source_release(&src);
    return EXIT_OK;
}
