/* plan_schema.c: every key of a plan, its type, its range and what holds without it. */
#include "cli/dr/plan_internal.h"

#include <stddef.h>

#define SECOND ((int64_t)1000)
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)
#define NEVER  (100 * 366 * DAY)

#define N(a) (sizeof (a) / sizeof (a)[0])
#define SCHEMA(id, words, type, cmds) const struct schema schema_##id = { words, id##_fields, N(id##_fields), sizeof (type), cmds }

#define COMMAND_FIELDS(timeout) \
    { "command", FIELD_TEXT, .at = offsetof(struct plan_command, command), .required = true }, \
    { "check", FIELD_TEXT, .at = offsetof(struct plan_command, check) }, \
    { "timeout", FIELD_DURATION, .at = offsetof(struct plan_command, timeout_ms), .min = 1, .max = DAY, .unless = (timeout) }, \
    { "retries", FIELD_WHOLE, .at = offsetof(struct plan_command, retries), .min = 0, .max = 1000, .unless = 0 }, \
    { "interval", FIELD_DURATION, .at = offsetof(struct plan_command, interval_ms), .min = 0, .max = HOUR, .unless = SECOND }, \
    { "on-failure", FIELD_CHOICE, .at = offsetof(struct plan_command, on_failure), .words = "stop|continue|manual" }

static const struct field command_fields[] = { COMMAND_FIELDS(MINUTE) };
static SCHEMA(command, "a command", struct plan_command, true);

static const struct field health_fields[] = {
    { "command", FIELD_TEXT, .at = offsetof(struct plan_command, command), .required = true },
    { "check", FIELD_TEXT, .at = offsetof(struct plan_command, check) },
    { "timeout", FIELD_DURATION, .at = offsetof(struct plan_command, timeout_ms), .min = 1, .max = DAY, .unless = MINUTE },
    { "interval", FIELD_DURATION, .at = offsetof(struct plan_command, interval_ms), .min = 10, .max = HOUR, .unless = 200 },
    { "stable", FIELD_WHOLE, .at = offsetof(struct plan_command, stable), .min = 1, .max = 100, .unless = 1 },
    { "on-failure", FIELD_CHOICE, .at = offsetof(struct plan_command, on_failure), .words = "stop|continue|manual" },
};
static SCHEMA(health, "a health check", struct plan_command, true);

static const struct field named_fields[] = {
    { "name", FIELD_NAME, .at = offsetof(struct plan_command, h.name), .required = true },
    COMMAND_FIELDS(MINUTE),
};
static SCHEMA(named, "a step", struct plan_command, false);

static const struct field manual_fields[] = {
    { "name", FIELD_NAME, .at = offsetof(struct plan_manual, h.name), .required = true },
    { "text", FIELD_TEXT, .at = offsetof(struct plan_manual, text), .required = true },
    { "who", FIELD_NAME, .at = offsetof(struct plan_manual, who) },
    { "when", FIELD_CHOICE, .at = offsetof(struct plan_manual, when), .words = "before-start|after-start" },
};
static SCHEMA(manual, "a manual step", struct plan_manual, false);

static const struct field objectives_fields[] = {
    { "rpo", FIELD_DURATION, .at = offsetof(struct plan_objectives, rpo_ms), .min = 0, .max = NEVER, .unless = -1 },
    { "rto", FIELD_DURATION, .at = offsetof(struct plan_objectives, rto_ms), .min = 1, .max = NEVER, .unless = -1 },
    { "retention", FIELD_DURATION, .at = offsetof(struct plan_objectives, retention_ms), .min = MINUTE, .max = NEVER, .unless = -1 },
};
static SCHEMA(objectives, "objectives", struct plan_objectives, false);

static const struct field store_fields[] = {
    { "path", FIELD_PATH, .at = offsetof(struct plan_store, path), .required = true },
    { "mount", FIELD_PATH, .at = offsetof(struct plan_store, mount), .required = true },
    { "options", FIELD_LINE, .at = offsetof(struct plan_store, options) },
};
static SCHEMA(store, "a store", struct plan_store, false);

static const struct field site_fields[] = {
    { "title", FIELD_LINE, .at = offsetof(struct plan_site, title) },
    { "host", FIELD_LINE, .at = offsetof(struct plan_site, host) },
    { "ssh", FIELD_LINE, .at = offsetof(struct plan_site, ssh) },
    { "spare", FIELD_LINE, .at = offsetof(struct plan_site, spare) },
    { "contact-timeout", FIELD_DURATION, .at = offsetof(struct plan_site, contact_ms), .min = 100, .max = 10 * MINUTE, .unless = 3 * SECOND },
    { "key", FIELD_KEY, .at = offsetof(struct plan_site, key) },
    { "stores", FIELD_ENTRIES, .at = offsetof(struct plan_site, stores), .required = true, .min = 1, .max = 16, .sub = &schema_store },
    { "fence", FIELD_ITEMS, .at = offsetof(struct plan_site, fence), .max = 16, .sub = &schema_named },
};
static SCHEMA(site, "a site", struct plan_site, false);

static const struct field system_fields[] = {
    { "title", FIELD_LINE, .at = offsetof(struct plan_system, title) },
    { "critical", FIELD_WHOLE, .at = offsetof(struct plan_system, critical), .required = true, .min = 1, .max = 9 },
    { "max-outage", FIELD_DURATION, .at = offsetof(struct plan_system, max_outage_ms), .min = SECOND, .max = NEVER, .unless = -1 },
    { "depends", FIELD_WORDS, .at = offsetof(struct plan_system, depends), .max = 64 },
    { "start", FIELD_COMMAND, .at = offsetof(struct plan_system, start), .sub = &schema_command },
    { "stop", FIELD_COMMAND, .at = offsetof(struct plan_system, stop), .sub = &schema_command },
    { "health", FIELD_COMMAND, .at = offsetof(struct plan_system, health), .sub = &schema_health },
    { "manual", FIELD_ITEMS, .at = offsetof(struct plan_system, manual), .max = 16, .sub = &schema_manual },
    { "objectives", FIELD_PART, .at = offsetof(struct plan_system, objectives), .sub = &schema_objectives },
};
static SCHEMA(system, "a system", struct plan_system, false);

static const struct field contact_fields[] = {
    { "channel", FIELD_NAME, .at = offsetof(struct plan_contact, channel), .required = true },
    { "address", FIELD_LINE, .at = offsetof(struct plan_contact, address), .required = true },
};
static SCHEMA(contact, "a contact", struct plan_contact, false);

static const struct field person_fields[] = {
    { "name", FIELD_LINE, .at = offsetof(struct plan_person, title) },
    { "role", FIELD_LINE, .at = offsetof(struct plan_person, role), .required = true },
    { "decides", FIELD_BOOL, .at = offsetof(struct plan_person, decides) },
    { "contacts", FIELD_ITEMS, .at = offsetof(struct plan_person, contacts), .required = true, .min = 1, .max = 16, .sub = &schema_contact },
};
static SCHEMA(person, "a person", struct plan_person, false);

static const struct field channel_fields[] = {
    { "type", FIELD_CHOICE, .at = offsetof(struct plan_channel, type), .required = true, .words = "command|mail|webhook|heartbeat" },
    { "command", FIELD_TEXT, .at = offsetof(struct plan_channel, command) },
    { "url", FIELD_URL, .at = offsetof(struct plan_channel, url) },
    { "from", FIELD_LINE, .at = offsetof(struct plan_channel, from) },
    { "timeout", FIELD_DURATION, .at = offsetof(struct plan_channel, timeout_ms), .min = 100, .max = 10 * MINUTE, .unless = 10 * SECOND },
    { "interval", FIELD_DURATION, .at = offsetof(struct plan_channel, interval_ms), .min = SECOND, .max = DAY, .unless = MINUTE },
};
static SCHEMA(channel, "a channel", struct plan_channel, false);

static const struct field rung_fields[] = {
    { "who", FIELD_WORDS, .at = offsetof(struct plan_rung, who), .required = true, .min = 1, .max = 32 },
    { "wait", FIELD_DURATION, .at = offsetof(struct plan_rung, wait_ms), .required = true, .min = 100, .max = 7 * DAY },
};
static SCHEMA(rung, "a rung of the ladder", struct plan_rung, false);

static const struct field message_fields[] = {
    { "subject", FIELD_LINE, .at = offsetof(struct plan_message, subject), .required = true },
    { "text", FIELD_TEXT, .at = offsetof(struct plan_message, text), .required = true },
};
static SCHEMA(message, "a message", struct plan_message, false);

static const struct field commit_fields[] = {
    { "after", FIELD_DURATION, .at = offsetof(struct plan_commit, after_ms), .required = true, .min = SECOND, .max = 366 * DAY },
    { "then", FIELD_CHOICE, .at = offsetof(struct plan_commit, then), .required = true, .words = "wait|commit|rollback" },
};
static SCHEMA(commit, "a commit policy", struct plan_commit, false);

static const struct field ack_fields[] = {
    { "listen", FIELD_LINE, .at = offsetof(struct plan_ack, listen), .required = true },
    { "url", FIELD_URL, .at = offsetof(struct plan_ack, url), .required = true },
};
static SCHEMA(ack, "acknowledge", struct plan_ack, false);

static const struct field drill_fields[] = {
    { "every", FIELD_DURATION, .at = offsetof(struct plan_drill, every_ms), .required = true, .min = HOUR, .max = 5 * 366 * DAY },
    { "at", FIELD_LINE, .at = offsetof(struct plan_drill, at) },
    { "tell", FIELD_WORDS, .at = offsetof(struct plan_drill, tell), .max = 32 },
};
static SCHEMA(drill, "a drill", struct plan_drill, false);

static const struct field compare_fields[] = {
    { "packages", FIELD_WORDS, .at = offsetof(struct plan_compare, packages), .max = 256 },
    { "units", FIELD_WORDS, .at = offsetof(struct plan_compare, units), .max = 256 },
    { "files", FIELD_WORDS, .at = offsetof(struct plan_compare, files), .max = 256 },
    { "ports", FIELD_WORDS, .at = offsetof(struct plan_compare, ports), .max = 256 },
    { "users", FIELD_WORDS, .at = offsetof(struct plan_compare, users), .max = 256 },
};
static SCHEMA(compare, "what is compared", struct plan_compare, false);

static const struct field plan_fields[] = {
    { "plan", FIELD_NAME, .at = offsetof(struct plan, h.name), .required = true },
    { "version", FIELD_WHOLE, .at = offsetof(struct plan, version), .required = true, .min = PLAN_VERSION, .max = PLAN_VERSION },
    { "title", FIELD_LINE, .at = offsetof(struct plan, title) },
    { "primary", FIELD_NAME, .at = offsetof(struct plan, primary), .required = true },
    { "prefer", FIELD_CHOICE, .at = offsetof(struct plan, prefer), .words = "rpo|rto" },
    { "objectives", FIELD_PART, .at = offsetof(struct plan, objectives), .sub = &schema_objectives },
    { "sites", FIELD_ENTRIES, .at = offsetof(struct plan, sites), .required = true, .min = 2, .max = PLAN_MAX_SITES, .sub = &schema_site },
    { "systems", FIELD_ENTRIES, .at = offsetof(struct plan, systems), .required = true, .min = 1, .max = PLAN_MAX_SYSTEMS, .sub = &schema_system },
    { "traffic", FIELD_ITEMS, .at = offsetof(struct plan, traffic), .max = 64, .sub = &schema_named },
    { "people", FIELD_ENTRIES, .at = offsetof(struct plan, people), .max = 256, .sub = &schema_person },
    { "channels", FIELD_ENTRIES, .at = offsetof(struct plan, channels), .max = 64, .sub = &schema_channel },
    { "escalation", FIELD_ITEMS, .at = offsetof(struct plan, escalation), .max = 32, .sub = &schema_rung },
    { "messages", FIELD_ENTRIES, .at = offsetof(struct plan, messages), .max = 16, .sub = &schema_message },
    { "commit", FIELD_PART, .at = offsetof(struct plan, commit), .sub = &schema_commit },
    { "acknowledge", FIELD_PART, .at = offsetof(struct plan, ack), .sub = &schema_ack },
    { "drill", FIELD_PART, .at = offsetof(struct plan, drill), .sub = &schema_drill },
    { "compare", FIELD_PART, .at = offsetof(struct plan, compare), .sub = &schema_compare },
};
SCHEMA(plan, "a plan", struct plan, false);
