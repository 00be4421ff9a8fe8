/* plan_internal.h: the tables by which a tree becomes a plan. */
#ifndef CLI_DR_PLAN_INTERNAL_H
#define CLI_DR_PLAN_INTERNAL_H

#include "cli/dr/plan.h"

/*
 * FIELD_LINE: text of one line. FIELD_TEXT: of any. FIELD_NAME: a word of letters, digits, "._-". FIELD_WHOLE: min to max. FIELD_DURATION, FIELD_BOOL. FIELD_CHOICE: a word of
 * ${words}. FIELD_PATH: absolute. FIELD_URL. FIELD_KEY: base64 of 32 bytes. FIELD_PART: a mapping by ${sub}. FIELD_COMMAND: the same, or a line alone, which is its command.
 * FIELD_ENTRIES: a mapping of names to mappings (or commands) by ${sub}, which makes an array. FIELD_ITEMS: a list of mappings (or commands). FIELD_WORDS: a list of lines.
 */
enum field_type { FIELD_LINE, FIELD_TEXT, FIELD_NAME, FIELD_WHOLE, FIELD_DURATION, FIELD_BOOL, FIELD_CHOICE, FIELD_PATH, FIELD_URL, FIELD_KEY, FIELD_PART, FIELD_COMMAND,
                  FIELD_ENTRIES, FIELD_ITEMS, FIELD_WORDS };

struct schema;
struct field {
    const char *key;
    enum field_type type;
    size_t at;                  /* offset in the struct */
    bool required;
    int64_t min, max, unless;   /* unless: the value where the key is absent */
    const char *words;          /* "stop|continue|manual" */
    const struct schema *sub;
};

struct schema {
    const char *what;           /* "a site" */
    const struct field *fields;
    unsigned n;
    size_t size;                /* of the struct */
    bool commands;              /* an entry may be a line alone */
};

extern const struct schema schema_plan;

#endif
