#include "cli/dr/message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const figure_names[] = {
#define X(name, text) #name,
    MESSAGE_FIGURES(X)
#undef X
};

static const char *const event_names[] = {
#define X(id, name) name,
    MESSAGE_EVENTS(X)
#undef X
};

static const struct { const char *subject, *text; } built_in[N_MESSAGE_EVENTS] = {
    [MESSAGE_BEGUN] = { "{plan}: {kind} to {site} has begun",
        "{kind} of {plan} to {site} has begun; {other} is left behind.\n"
        "What may be lost: {rpo} (objective {rpo_objective}). Expected up in {eta} (objective {rto_objective}).\n"
        "Who decides: {decides}.\nAcknowledge: {link}\nor on {host}: {ack}\n" },
    [MESSAGE_WAITING] = { "{plan}: {kind} waits for a person: {step}",
        "{kind} of {plan} to {site} waits at {step}: {reason}.\nIt runs for {elapsed}. Who decides: {decides}.\nAcknowledge: {link}\nor on {host}: {ack}\n" },
    [MESSAGE_STOPPED] = { "{plan}: {kind} stopped at {step}",
        "{kind} of {plan} to {site} stopped at {step} after {elapsed}: {reason}.\nWho decides: {decides}.\nAcknowledge: {link}\nor on {host}: {ack}\n" },
    [MESSAGE_UP] = { "{plan}: is up at {site}",
        "{plan} is up at {site} after {elapsed} (objective {rto_objective}). What may be lost: {rpo}.\n"
        "Now {decides} decides: commit or roll back, on {host}: spare dr commit, or spare dr rollback.\nAcknowledge: {link}\nor on {host}: {ack}\n" },
    [MESSAGE_COMMITTED] = { "{plan}: {site} is final", "The {kind} of {plan} to {site} was committed.\n" },
    [MESSAGE_ROLLED_BACK] = { "{plan}: back at {other}", "The {kind} of {plan} to {site} was rolled back: it runs at {other}.\n" },
    [MESSAGE_DRILL] = { "{plan}: a drill", "This is a drill of {plan}; nothing has happened.\nAcknowledge: {link}\nor on {host}: {ack}\n" },
};

const char *message_event_name(enum message_event e)
{
    return event_names[e];
}

enum message_event message_event(const char *name)
{
    unsigned i = 0;

    while (i < N_MESSAGE_EVENTS && strcmp(event_names[i], name) != 0)
        i++;
    return (enum message_event)i;
}

/* The figure between braces that begins at ${s}; N_FIGURES: none. */
static unsigned figure_at(const char *s, size_t *len)
{
    *len = strcspn(s, "}{\n");
    for (unsigned i = 0; s[*len] == '}' && i < N_FIGURES; i++)
        if (strlen(figure_names[i]) == *len && strncmp(figure_names[i], s, *len) == 0)
            return i;
    return N_FIGURES;
}

bool message_check(const char *text, char *bad, size_t cap)
{
    size_t len;

    for (const char *s = text; *s; s++) {
        if (*s != '{')
            continue;
        if (s[1] == '{') {
            s++;
            continue;
        }
        if (figure_at(s + 1, &len) == N_FIGURES) {
            snprintf(bad, cap, "{%.*s%s", (int)(len < 40 ? len : 40), s + 1, s[1 + len] == '}' ? "}" : "");
            return false;
        }
        s += len + 1;
    }
    return true;
}

char *message_fill(const char *text, const struct figures *f)
{
    char *out = NULL;
    size_t cap = 0, len;
    FILE *m = open_memstream(&out, &cap);

    if (!m)
        return NULL;
    for (const char *s = text; *s; s++) {
        unsigned i = *s == '{' && s[1] != '{' ? figure_at(s + 1, &len) : N_FIGURES;

        if (i < N_FIGURES) {
            fputs(f->v[i] ? f->v[i] : "unknown", m);
            s += len + 1;
            continue;
        }
        putc(*s, m);
        if (*s == '{' && s[1] == '{')
            s++;
    }
    if (fclose(m)) {
        free(out);
        return NULL;
    }
    return out;
}

void message_of(const struct plan *p, enum message_event e, const char **subject, const char **text)
{
    const struct plan_message *m = plan_message(p, event_names[e]);

    *subject = m ? m->subject : built_in[e].subject;
    *text = m ? m->text : built_in[e].text;
}
