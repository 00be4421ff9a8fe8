/*
 * check_dr_plan.c: plans that are wrong, each by one change to a right one, and the exact messages; the order; durations; what lies where.
 */
#include "cli/dr/message.h"
#include "cli/dr/plan.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char good[] =
    "plan: shop\n"
    "version: 1\n"
    "title: The shop and what it needs\n"
    "primary: here\n"
    "prefer: rto\n"
    "objectives: {rpo: 1s, rto: 15s, retention: 7d}\n"
    "sites:\n"
    "  here:\n"
    "    host: here.example.org\n"
    "    stores:\n"
    "      data: {path: /srv/store, mount: /srv/data}\n"
    "    fence:\n"
    "      - {name: power, command: ipmi off, timeout: 10s}\n"
    "  there:\n"
    "    host: there.example.org\n"
    "    contact-timeout: 1s\n"
    "    stores:\n"
    "      data: {path: /srv/store, mount: /srv/data, options: allow_other}\n"
    "systems:\n"
    "  db:\n"
    "    critical: 1\n"
    "    max-outage: 15m\n"
    "    start: {command: start db, timeout: 30s, retries: 2, interval: 1s, on-failure: stop}\n"
    "    stop: stop db\n"
    "    health: {command: ask db, timeout: 30s, stable: 2}\n"
    "  web:\n"
    "    critical: 2\n"
    "    depends: [db]\n"
    "    start: start web\n"
    "    manual:\n"
    "      - {name: cache, text: Warm the cache., who: anna, when: after-start}\n"
    "    objectives: {rto: 1m}\n"
    "traffic:\n"
    "  - {name: address, command: move address, timeout: 5s}\n"
    "people:\n"
    "  anna:\n"
    "    role: on call\n"
    "    decides: true\n"
    "    contacts:\n"
    "      - {channel: mail, address: anna@example.org}\n"
    "      - {channel: pager, address: \"+41 44 000 00 00\"}\n"
    "channels:\n"
    "  mail: {type: mail, from: dr@example.org}\n"
    "  pager: {type: command, command: page \"$SPARE_TO\", timeout: 10s}\n"
    "  chat: {type: webhook, url: \"https://chat.example.org/hook\"}\n"
    "  beat: {type: heartbeat, url: \"https://beat.example.org/1\", interval: 1m}\n"
    "escalation:\n"
    "  - {who: [anna], wait: 5m}\n"
    "messages:\n"
    "  begun: {subject: \"{plan} goes\", text: \"To {site}; up in {eta}.\"}\n"
    "commit: {after: 1d, then: wait}\n"
    "acknowledge: {listen: \"0.0.0.0:8642\", url: \"http://there.example.org:8642\"}\n"
    "drill: {every: 30d, at: \"03:30\", tell: [anna]}\n"
    "compare: {packages: [nginx], units: [nginx.service], files: [/etc/nginx/nginx.conf], ports: [tcp/443], users: [www-data]}\n";

/* ${find} in the good plan becomes ${put}; "" is all of it. Several messages are lines. */
static const struct wrong { const char *name, *find, *put, *says; } wrong[] = {
    { "empty_text", "", "",
      "1:1: expected a plan as a mapping, found nothing" },
    { "only_a_comment", "", "# nothing here",
      "1:1: expected a plan as a mapping, found nothing" },
    { "a_list", "", "- plan",
      "1:1: expected a plan as a mapping, found a list" },
    { "a_word", "", "plan",
      "1:1: expected a plan as a mapping, found \"plan\"" },
    { "two_documents", "", "plan: a\n---\nplan: b",
      "3:1: expected one document, found another one" },
    { "not_utf8", "title: The", "title: \377The",
      "3:8: expected text in UTF-8, found invalid leading UTF-8 octet" },
    { "nul_in_text", "title: The shop and what it needs", "title: \"\\0The\"\"",
      "3:8: expected text, found a NUL character in it" },
    { "control_character", "title: The shop and what it needs", "title: \"\\x07The\"",
      "3:8: expected a line of text for title, found \"?The\"" },
    { "tab_as_indent", "  here:\n    host", "  here:\n\\thost",
      "10:11: expected YAML, found a fault: mapping values are not allowed in this context" },
    { "unclosed_quote", "users: [www-data]}", "users: [\"www-data]}",
      "55:1: expected YAML, found a fault while scanning a quoted scalar that begins in line 54: found unexpected end of stream" },
    { "unclosed_bracket", "depends: [db]", "depends: [db",
      "29:10: expected YAML, found a fault while parsing a flow sequence that begins in line 28: did not find expected ',' or ']'" },
    { "unclosed_brace", "commit: {after: 1d, then: wait}", "commit: {after: 1d, then: wait",
      "52:12: expected YAML, found a fault while parsing a flow mapping that begins in line 51: did not find expected ',' or '}'" },
    { "bad_escape", "title: The", "title: \"\\qThe\"",
      "3:9: expected YAML, found a fault while parsing a quoted scalar that begins in line 3: found unknown escape character" },
    { "mapping_in_a_value", "title: The shop", "title: The: shop",
      "3:11: expected YAML, found a fault: mapping values are not allowed in this context" },
    { "outdented", "    critical: 1\n", "   critical: 1\n",
      "22:15: expected YAML, found a fault: mapping values are not allowed in this context" },
    { "anchor", "critical: 1", "critical: &c 1",
      "21:15: expected a value, found the anchor \"&c\"; a plan says each thing where it holds" },
    { "alias", "critical: 2", "critical: *c",
      "27:15: expected a value, found the alias \"*c\"; a plan says each thing where it holds" },
    { "tag", "critical: 1", "critical: !!str 1",
      "21:15: expected a value, found the tag \"tag:yaml.org,2002:str\"" },
    { "own_tag", "title: The", "title: !x The",
      "3:8: expected a value, found the tag \"!x\"" },
    { "merge_key", "    critical: 1", "    <<: {critical: 1}",
      "21:5: expected a key of a system (title, critical, max-outage, depends, start, stop, health, manual, objectives), found \"<<\"\n"
      "21:5: expected the key critical in a system, found none" },
    { "key_twice", "version: 1\n", "version: 1\nversion: 1\n",
      "3:1: expected each key once, found \"version\" again (it is in line 2, too)" },
    { "system_twice", "  web:", "  db:",
      "26:3: expected each key once, found \"db\" again (it is in line 20, too)" },
    { "list_as_key", "version: 1\n", "version: 1\n? [a]\n: b\n",
      "3:3: expected a word as key, found a list" },
    { "mapping_as_key", "version: 1\n", "version: 1\n? {a: b}\n: c\n",
      "3:3: expected a word as key, found a mapping" },
    { "too_deep", "title: The shop and what it needs", "title: [[[[[[[[[[[[[]]]]]]]]]]]]]",
      "3:19: expected at most 12 levels, found more" },
    { "unknown_key", "title: The", "titel: The",
      "3:1: expected a key of a plan (plan, version, title, primary, prefer, objectives, sites, systems, traffic, people, channels, escalation, messages, commit, acknowledge, drill, compare), found \"titel\"" },
    { "unknown_key_in_site", "    contact-timeout: 1s", "    contact: 1s",
      "16:5: expected a key of a site (title, host, ssh, spare, contact-timeout, key, stores, fence), found \"contact\"" },
    { "unknown_key_in_start", "retries: 2", "retry: 2",
      "23:46: expected a key of a command (command, check, timeout, retries, interval, on-failure), found \"retry\"" },
    { "unknown_key_in_health", "stable: 2", "retries: 2",
      "25:45: expected a key of a health check (command, check, timeout, interval, stable, on-failure), found \"retries\"" },
    { "no_plan", "plan: shop\n", "",
      "1:1: expected the key plan in a plan, found none" },
    { "no_version", "version: 1\n", "",
      "1:1: expected the key version in a plan, found none" },
    { "no_primary", "primary: here\n", "",
      "1:1: expected the key primary in a plan, found none" },
    { "no_sites", "sites:\n", "sitez:\n",
      "1:1: expected the key sites in a plan, found none\n"
      "7:1: expected a key of a plan (plan, version, title, primary, prefer, objectives, sites, systems, traffic, people, channels, escalation, messages, commit, acknowledge, drill, compare), found \"sitez\"" },
    { "no_systems", "systems:\n", "system:\n",
      "1:1: expected the key systems in a plan, found none\n"
      "19:1: expected a key of a plan (plan, version, title, primary, prefer, objectives, sites, systems, traffic, people, channels, escalation, messages, commit, acknowledge, drill, compare), found \"system\"" },
    { "plan_with_a_space", "plan: shop", "plan: my shop",
      "1:7: expected a name of letters, digits and . _ - (64 at most) for plan, found \"my shop\"" },
    { "plan_with_a_slash", "plan: shop", "plan: a/b",
      "1:7: expected a name of letters, digits and . _ - (64 at most) for plan, found \"a/b\"" },
    { "plan_empty", "plan: shop", "plan:",
      "1:6: expected a name of letters, digits and . _ - (64 at most) for plan, found nothing" },
    { "plan_a_list", "plan: shop", "plan: [shop]",
      "1:7: expected a name of letters, digits and . _ - (64 at most) for plan, found a list" },
    { "version_of_the_future", "version: 1", "version: 2",
      "2:10: expected 1 for version, found \"2\"" },
    { "version_a_word", "version: 1", "version: one",
      "2:10: expected 1 for version, found \"one\"" },
    { "version_quoted", "version: 1", "version: \"1\"",
      "2:10: expected 1 for version, found \"1\"" },
    { "title_empty", "title: The shop and what it needs", "title:",
      "3:7: expected a line of text for title, found nothing" },
    { "title_of_two_lines", "title: The shop and what it needs", "title: \"The\\nshop\"",
      "3:8: expected a line of text for title, found \"The...\"" },
    { "primary_unknown", "primary: here", "primary: nowhere",
      "4:10: expected the name of a site for primary, found \"nowhere\"" },
    { "prefer_unknown", "prefer: rto", "prefer: money",
      "5:9: expected rpo or rto for prefer, found \"money\"" },
    { "objectives_a_number", "objectives: {rpo: 1s, rto: 15s, retention: 7d}", "objectives: 5",
      "6:13: expected objectives as a mapping, found \"5\"" },
    { "rpo_without_unit", "rpo: 1s", "rpo: 1",
      "6:19: expected a time such as 500ms, 15s, 5m, 2h or 7d for rpo, found \"1\"" },
    { "rpo_negative", "rpo: 1s", "rpo: -1s",
      "6:19: expected a time such as 500ms, 15s, 5m, 2h or 7d for rpo, found \"-1s\"" },
    { "rto_zero", "rto: 15s", "rto: 0s",
      "6:28: expected a time from 1ms to 36600d for rto, found \"0s\"" },
    { "rto_a_fraction", "rto: 15s", "rto: 1.5s",
      "6:28: expected a time such as 500ms, 15s, 5m, 2h or 7d for rto, found \"1.5s\"" },
    { "rto_two_units", "rto: 15s", "rto: 1m30s",
      "6:28: expected a time such as 500ms, 15s, 5m, 2h or 7d for rto, found \"1m30s\"" },
    { "retention_too_short", "retention: 7d", "retention: 5s",
      "6:44: expected a time from 1m to 36600d for retention, found \"5s\"" },
    { "time_overflow", "retention: 7d", "retention: 99999999999999999999d",
      "6:44: expected a time such as 500ms, 15s, 5m, 2h or 7d for retention, found \"99999999999999999999d\"" },
    { "time_out_of_range", "retention: 7d", "retention: 500y",
      "6:44: expected a time from 1m to 36600d for retention, found \"500y\"" },
    { "one_site", "  there:\n    host: there.example.org\n    contact-timeout: 1s\n    stores:\n      data: {path: /srv/store, mount: /srv/data, options: allow_other}\n", "",
      "8:3: expected 2 to 8 entries in sites, found 1" },
    { "sites_a_list", "sites:\n  here:", "sites:\n  - here:",
      "14:3: expected YAML, found a fault while parsing a block collection that begins in line 8: did not find expected '-' indicator" },
    { "site_a_word", "primary: here\n", "primary: here\nxsites: a\n",
      "5:1: expected a key of a plan (plan, version, title, primary, prefer, objectives, sites, systems, traffic, people, channels, escalation, messages, commit, acknowledge, drill, compare), found \"xsites\"" },
    { "site_name", "  there:", "  \"the re\":",
      "14:3: expected a name of letters, digits and . _ - (64 at most) in sites, found \"the re\"" },
    { "host_an_option", "host: here.example.org", "host: -oProxyCommand=x",
      "9:11: expected a host name for site here, found \"-oProxyCommand=x\"" },
    { "host_with_a_path", "host: here.example.org", "host: here:/srv",
      "9:11: expected a host name for site here, found \"here:/srv\"" },
    { "contact_too_short", "contact-timeout: 1s", "contact-timeout: 5ms",
      "16:22: expected a time from 100ms to 10m for contact-timeout, found \"5ms\"" },
    { "no_stores", "    stores:\n      data: {path: /srv/store, mount: /srv/data}\n", "",
      "9:5: expected the key stores in a site, found none" },
    { "stores_empty", "    stores:\n      data: {path: /srv/store, mount: /srv/data}\n", "    stores: {}\n",
      "10:13: expected 1 to 16 entries in stores, found 0" },
    { "store_without_path", "data: {path: /srv/store, mount: /srv/data}", "data: {mount: /srv/data}",
      "11:13: expected the key path in a store, found none" },
    { "store_path_relative", "data: {path: /srv/store, mount: /srv/data}", "data: {path: store, mount: /srv/data}",
      "11:20: expected an absolute path for path, found \"store\"" },
    { "store_missing_there", "data: {path: /srv/store, mount: /srv/data, options", "other: {path: /srv/store, mount: /srv/data, options",
      "14:3: expected the store data at site there, as site here has it, found none\n"
      "18:7: expected the stores of site here at site there, found another one, \"other\"" },
    { "same_place", "host: there.example.org", "host: here.example.org",
      "18:7: expected a place of its own for store data of site there, found that of store data of site here (line 11)" },
    { "key_short", "    contact-timeout: 1s", "    key: abcd",
      "16:10: expected a key of 32 bytes in base64 for key, found \"abcd\"" },
    { "fence_without_name", "{name: power, command", "{command",
      "13:9: expected the key name in a step, found none" },
    { "fence_without_command", "{name: power, command: ipmi off, timeout: 10s}", "{name: power}",
      "13:9: expected the key command in a step, found none" },
    { "fence_a_word", "- {name: power, command: ipmi off, timeout: 10s}", "- ipmi off",
      "13:9: expected a step as a mapping, found \"ipmi off\"" },
    { "fence_twice", "    fence:\n", "    fence:\n      - {name: power, command: other}\n",
      "14:16: expected each name once in fence, found \"power\" again (line 13)" },
    { "systems_empty", "critical: 1\n", "critical: 1\n    depends: [db]\n",
      "22:15: expected systems that do not wait for themselves, found a cycle: db -> db" },
    { "critical_zero", "critical: 1", "critical: 0",
      "21:15: expected a whole number from 1 to 9 for critical, found \"0\"" },
    { "critical_ten", "critical: 1", "critical: 10",
      "21:15: expected a whole number from 1 to 9 for critical, found \"10\"" },
    { "critical_missing", "    critical: 1\n", "",
      "21:5: expected the key critical in a system, found none" },
    { "critical_a_word", "critical: 1", "critical: very",
      "21:15: expected a whole number from 1 to 9 for critical, found \"very\"" },
    { "max_outage_a_word", "max-outage: 15m", "max-outage: soon",
      "22:17: expected a time such as 500ms, 15s, 5m, 2h or 7d for max-outage, found \"soon\"" },
    { "depends_a_word", "depends: [db]", "depends: db",
      "28:14: expected a list for depends, found \"db\"" },
    { "depends_unknown", "depends: [db]", "depends: [db, redis]",
      "28:19: expected the name of a system in depends of web, found \"redis\"" },
    { "depends_twice", "depends: [db]", "depends: [db, db]",
      "28:19: expected each system once in depends of web, found \"db\" again" },
    { "depends_itself", "depends: [db]", "depends: [web]",
      "28:15: expected systems that do not wait for themselves, found a cycle: web -> web" },
    { "depends_a_cycle", "    critical: 1\n", "    critical: 1\n    depends: [web]\n",
      "29:15: expected systems that do not wait for themselves, found a cycle: db -> web -> db" },
    { "nothing_to_start", "    start: start web\n    manual:\n      - {name: cache, text: Warm the cache., who: anna, when: after-start}\n", "",
      "26:3: expected a start command or a manual step in system web, found neither" },
    { "start_empty", "start: start web", "start:",
      "29:11: expected a command as a mapping or a command line, found nothing" },
    { "start_a_list", "start: start web", "start: [a, b]",
      "29:12: expected a command as a mapping or a command line, found a list" },
    { "start_without_command", "{command: start db, timeout", "{timeout",
      "23:12: expected the key command in a command, found none" },
    { "check_empty", "retries: 2", "check: \"\"",
      "23:53: expected text for check, found \"\"" },
    { "timeout_zero", "timeout: 30s, retries", "timeout: 0s, retries",
      "23:41: expected a time from 1ms to 1d for timeout, found \"0s\"" },
    { "retries_negative", "retries: 2", "retries: -1",
      "23:55: expected a whole number from 0 to 1000 for retries, found \"-1\"" },
    { "retries_many", "retries: 2", "retries: 1001",
      "23:55: expected a whole number from 0 to 1000 for retries, found \"1001\"" },
    { "retries_a_fraction", "retries: 2", "retries: 2.0",
      "23:55: expected a whole number from 0 to 1000 for retries, found \"2.0\"" },
    { "interval_long", "interval: 1s", "interval: 2h",
      "23:68: expected a time from 0s to 1h for interval, found \"2h\"" },
    { "on_failure_unknown", "on-failure: stop", "on-failure: panic",
      "23:84: expected stop, continue or manual for on-failure, found \"panic\"" },
    { "health_never_stable", "stable: 2", "stable: 0",
      "25:53: expected a whole number from 1 to 100 for stable, found \"0\"" },
    { "manual_without_text", "text: Warm the cache., ", "",
      "31:9: expected the key text in a manual step, found none" },
    { "manual_when", "when: after-start", "when: sometime",
      "31:63: expected before-start or after-start for when, found \"sometime\"" },
    { "manual_who_unknown", "who: anna, when", "who: bert, when",
      "31:51: expected the name of a person in who of a manual step, found \"bert\"" },
    { "manual_twice", "    manual:\n", "    manual:\n      - {name: cache, text: Again.}\n",
      "32:16: expected each name once in manual, found \"cache\" again (line 31)" },
    { "traffic_a_mapping", "traffic:\n  - {name: address, command: move address, timeout: 5s}", "traffic: {name: address}",
      "33:10: expected a list for traffic, found a mapping" },
    { "traffic_twice", "traffic:\n", "traffic:\n  - {name: address, command: first}\n",
      "35:12: expected each name once in traffic, found \"address\" again (line 34)" },
    { "person_without_role", "    role: on call\n", "",
      "37:5: expected the key role in a person, found none" },
    { "person_without_contacts", "    contacts:\n      - {channel: mail, address: anna@example.org}\n      - {channel: pager, address: \"+41 44 000 00 00\"}\n", "    contacts: []\n",
      "39:15: expected 1 to 16 entries in contacts, found 0" },
    { "decides_yes", "decides: true", "decides: yes",
      "38:14: expected true or false for decides, found \"yes\"" },
    { "channel_unknown", "- {channel: mail,", "- {channel: smoke,",
      "40:19: expected the name of a channel, found \"smoke\"" },
    { "channel_a_heartbeat", "- {channel: mail,", "- {channel: beat,",
      "40:19: expected a channel that reaches a person, found \"beat\", a heartbeat" },
    { "mail_address", "anna@example.org", "anna",
      "40:34: expected an address for mail, found \"anna\"" },
    { "address_missing", "{channel: mail, address: anna@example.org}", "{channel: mail}",
      "40:9: expected the key address in a contact, found none" },
    { "channel_type", "type: webhook", "type: carrier-pigeon",
      "45:16: expected command, mail, webhook or heartbeat for type, found \"carrier-pigeon\"" },
    { "channel_command_missing", "{type: command, command: page \"$SPARE_TO\", timeout: 10s}", "{type: command}",
      "44:3: expected the key command in channel pager of type command, found none" },
    { "channel_url_missing", "{type: webhook, url: \"https://chat.example.org/hook\"}", "{type: webhook}",
      "45:3: expected the key url in channel chat of type webhook, found none" },
    { "channel_url_scheme", "https://chat", "ftp://chat",
      "45:30: expected an address with http:// or https:// for url, found \"ftp://chat.example.org/hook\"" },
    { "channel_url_no_host", "https://chat.example.org/hook", "https://",
      "45:30: expected an address with http:// or https:// for url, found \"https://\"" },
    { "channel_both", "{type: webhook,", "{type: webhook, command: x,",
      "45:3: expected a url and no command in channel chat of type webhook, found a command" },
    { "channel_from", "{type: webhook,", "{type: webhook, from: x,",
      "45:3: expected from in channels of type mail only, found it in channel chat of type webhook" },
    { "mail_with_url", "{type: mail, from", "{type: mail, url: \"http://x\", from",
      "43:3: expected no url in channel mail of type mail, found one" },
    { "escalation_unknown", "who: [anna], wait", "who: [bert], wait",
      "48:12: expected the name of a person in who of the escalation, found \"bert\"" },
    { "escalation_nobody", "who: [anna], wait", "who: [], wait",
      "48:11: expected 1 to 32 entries in who, found 0" },
    { "escalation_without_wait", "who: [anna], wait: 5m", "who: [anna]",
      "48:5: expected the key wait in a rung of the ladder, found none" },
    { "message_unknown", "  begun: {subject", "  started: {subject",
      "50:3: expected the name of a message (begun, waiting, stopped, up, committed, rolled-back, drill), found \"started\"" },
    { "message_figure", "up in {eta}", "up in {etc}",
      "50:41: expected a figure in braces in message begun, found \"{etc}\"" },
    { "message_open_brace", "up in {eta}.", "up in {eta.",
      "50:41: expected a figure in braces in message begun, found \"{eta.\"" },
    { "message_without_text", ", text: \"To {site}; up in {eta}.\"", "",
      "50:10: expected the key text in a message, found none" },
    { "commit_then", "then: wait", "then: hope",
      "51:27: expected wait, commit or rollback for then, found \"hope\"" },
    { "commit_without_after", "{after: 1d, then", "{then",
      "51:9: expected the key after in a commit policy, found none" },
    { "listen_without_port", "\"0.0.0.0:8642\"", "\"0.0.0.0\"",
      "52:23: expected ADDRESS:PORT for listen, found \"0.0.0.0\"" },
    { "listen_port", "\"0.0.0.0:8642\"", "\"0.0.0.0:70000\"",
      "52:23: expected ADDRESS:PORT for listen, found \"0.0.0.0:70000\"" },
    { "ack_without_url", ", url: \"http://there.example.org:8642\"", "",
      "52:14: expected the key url in acknowledge, found none" },
    { "drill_at", "\"03:30\"", "\"25:30\"",
      "53:25: expected a time of day such as 03:30 for at, found \"25:30\"" },
    { "drill_every", "every: 30d", "every: 5m",
      "53:16: expected a time from 1h to 1830d for every, found \"5m\"" },
    { "drill_tell", "tell: [anna]", "tell: [bert]",
      "53:41: expected the name of a person in tell of the drill, found \"bert\"" },
    { "port_zero", "tcp/443", "tcp/0",
      "54:94: expected a port such as 22, tcp/22 or udp/53, found \"tcp/0\"" },
    { "port_protocol", "tcp/443", "icmp/443",
      "54:94: expected a port such as 22, tcp/22 or udp/53, found \"icmp/443\"" },
    { "file_relative", "/etc/nginx/nginx.conf", "nginx.conf",
      "54:62: expected an absolute path, found \"nginx.conf\"" },
    { "package_with_space", "packages: [nginx]", "packages: [\"nginx; reboot\"]",
      "54:22: expected the name of a package, found \"nginx; reboot\"" },
    { "unit_an_option", "units: [nginx.service]", "units: [--now]",
      "54:38: expected the name of a unit, found \"--now\"" },
    { "user_a_mapping", "users: [www-data]", "users: [{a: b}]",
      "54:112: expected a line of text for users, found a mapping" },
};
enum { N_WRONG = sizeof wrong / sizeof wrong[0] };
_Static_assert(N_WRONG >= 100, "a hundred malformed plans");

/* Malloced. */
static char *changed(const char *find, const char *put)
{
    const char *at = *find ? strstr(good, find) : good;
    char *text = malloc(sizeof good + strlen(put));

    ck_assert_ptr_nonnull(text);
    ck_assert_msg(at != NULL, "the good plan does not have \"%s\"", find);
    sprintf(text, "%.*s%s%s", *find ? (int)(at - good) : 0, good, put, *find ? at + strlen(find) : "");
    return text;
}

static struct plan *parse(const char *text)
{
    struct problems p = { .file = "p" };
    struct plan *plan = NULL;
    struct err err = { 0 };
    int r = plan_parse(text, strlen(text), &plan, &p, &err);

    ck_assert_msg(r == 0 && p.n == 0, "%s", err.msg);
    problems_release(&p);
    return plan;
}

START_TEST(malformed)
{
    const struct wrong *w = &wrong[_i];
    char *text = changed(w->find, w->put), found[8192] = "";
    struct problems p = { .file = "p" };
    struct plan *plan = NULL;
    struct err err = { 0 };

    ck_assert_msg(plan_parse(text, strlen(text), &plan, &p, &err) == ERR_USAGE, "%s: was taken", w->name);
    ck_assert_ptr_null(plan);
    ck_assert_str_eq(err.msg, p.text[0]);
    for (unsigned i = 0; i < p.n; i++)
        snprintf(found + strlen(found), sizeof found - strlen(found), "%s%s", i ? "\n" : "", p.text[i] + 2);
    ck_assert_msg(strcmp(found, w->says) == 0, "%s:\nexpected: %s\nfound:    %s", w->name, w->says, found);
    problems_release(&p);
    free(text);
}
END_TEST

START_TEST(all_that_is_read)
{
    struct plan *p = parse(good);
    const struct plan_site *here = plan_site(p, "here");
    const struct plan_system *db = plan_system(p, "db"), *web = plan_system(p, "web");

    ck_assert_str_eq(p->h.name, "shop");
    ck_assert_int_eq(p->prefer, PREFER_RTO);
    ck_assert_int_eq(p->objectives.retention_ms, 7 * 86400000LL);
    ck_assert_str_eq(here->stores.v[0].mount, "/srv/data");
    ck_assert_str_eq(here->fence.v[0].command, "ipmi off");
    ck_assert_int_eq(here->fence.v[0].timeout_ms, 10000);
    ck_assert_int_eq(here->contact_ms, 3000);
    ck_assert_int_eq(plan_site(p, "there")->contact_ms, 1000);
    ck_assert_str_eq(plan_store(plan_site(p, "there"), "data")->options, "allow_other");
    ck_assert_int_eq(db->start.retries, 2);
    ck_assert_str_eq(db->stop.command, "stop db");
    ck_assert_int_eq(db->stop.timeout_ms, 60000);
    ck_assert_int_eq(db->health.stable, 2);
    ck_assert_int_eq(db->health.interval_ms, 200);
    ck_assert_int_eq(plan_rto(p, db), 15000);
    ck_assert_int_eq(plan_rto(p, web), 60000);
    ck_assert_int_eq(plan_rpo(p, web), 1000);
    ck_assert_int_eq(web->manual.v[0].when, MANUAL_AFTER);
    ck_assert_ptr_null(web->health.command);
    ck_assert_str_eq(plan_decides(p)->h.name, "anna");
    ck_assert_int_eq(plan_channel(p, "beat")->interval_ms, 60000);
    ck_assert_int_eq(p->escalation.v[0].wait_ms, 300000);
    ck_assert_int_eq(p->commit.then, DECIDE_WAIT);
    ck_assert_str_eq(p->compare.ports.v[0].h.name, "tcp/443");
    plan_free(p);
}
END_TEST

START_TEST(order_in_waves)
{
    char *text = changed("traffic:\n", "  a: {critical: 9, start: x, depends: [b, c]}\n  b: {critical: 9, start: x, depends: [c]}\n  c: {critical: 1, start: x, depends: [web]}\ntraffic:\n");
    struct plan *p = parse(text);

    ck_assert_uint_eq(plan_waves(p), 5);
    ck_assert_uint_eq(plan_system(p, "db")->wave, 0);
    ck_assert_uint_eq(plan_system(p, "web")->wave, 1);
    ck_assert_uint_eq(plan_system(p, "c")->wave, 2);
    ck_assert_uint_eq(plan_system(p, "b")->wave, 3);
    ck_assert_uint_eq(plan_system(p, "a")->wave, 4);
    plan_free(p);
    free(text);
}
END_TEST

START_TEST(durations)
{
    static const struct { const char *text; int64_t ms; const char *back; } t[] = {
        { "0", 0, "0s" }, { "500ms", 500, "500ms" }, { "15s", 15000, "15s" }, { "90s", 90000, "90s" }, { "5m", 300000, "5m" }, { "2h", 7200000, "2h" },
        { "48h", 172800000, "2d" }, { "1w", 604800000, "7d" }, { "1y", 31536000000, "365d" },
    };
    static const char *const bad[] = { "", "s", "5", "-5s", "5 s", "5S", "1.5s", "5sm", "99999999999999999999ms", "9223372036854775807d" };
    char buf[32];
    int64_t ms;

    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        ck_assert(plan_duration_parse(t[i].text, &ms));
        ck_assert_int_eq(ms, t[i].ms);
        ck_assert_str_eq(plan_duration(ms, buf), t[i].back);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_msg(!plan_duration_parse(bad[i], &ms), "%s", bad[i]);
    ck_assert_str_eq(plan_duration(-1, buf), "-");
}
END_TEST

START_TEST(too_large)
{
    struct problems p = { .file = "p" };
    struct plan *plan = NULL;
    struct err err = { 0 };
    size_t len = TREE_MAX_BYTES + 1;
    char *text = malloc(len);

    ck_assert_ptr_nonnull(text);
    memset(text, '\n', len);
    ck_assert_int_eq(plan_parse(text, len, &plan, &p, &err), ERR_USAGE);
    ck_assert_str_eq(err.msg, "p:1:1: expected a plan of at most 256 KiB, found 257");
    problems_release(&p);
    memset(&p, 0, sizeof p);
    p.file = "p";
    /* "[1,1,1...": more items than there may be. */
    for (size_t i = 0; i < 60000; i++)
        text[i] = i == 0 ? '[' : i % 2 ? '1' : ',';
    ck_assert_int_eq(plan_parse(text, 60000, &plan, &p, &err), ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.msg, "expected at most 20000 items in a plan, found more"));
    problems_release(&p);
    free(text);
}
END_TEST

START_TEST(fifty_at_most)
{
    struct problems p = { .file = "p" };
    struct plan *plan = NULL;
    struct err err = { 0 };
    char text[4096] = "";

    for (int i = 0; i < 100; i++)
        sprintf(text + strlen(text), "x%d: 1\n", i);
    ck_assert_int_eq(plan_parse(text, strlen(text), &plan, &p, &err), ERR_USAGE);
    ck_assert_uint_eq(p.n, TREE_MAX_PROBLEMS);
    problems_release(&p);
}
END_TEST

START_TEST(messages_are_filled)
{
    const struct figures f = { .v = { [FIGURE_plan] = "shop", [FIGURE_eta] = "12 s" } };
    char bad[64] = "", *text = message_fill("{plan} {{x} {eta} {rpo}{plan}", &f);

    ck_assert_str_eq(text, "shop {x} 12 s unknownshop");
    free(text);
    ck_assert(message_check("{plan} {{x} {eta}", bad, sizeof bad));
    ck_assert(!message_check("a {b} c", bad, sizeof bad));
    ck_assert_str_eq(bad, "{b}");
    ck_assert(!message_check("a {", bad, sizeof bad));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dr_plan");
    TCase *t = tcase_create("plan");
    SRunner *r;
    int bad;

    tcase_add_loop_test(t, malformed, 0, N_WRONG);
    tcase_add_test(t, all_that_is_read);
    tcase_add_test(t, order_in_waves);
    tcase_add_test(t, durations);
    tcase_add_test(t, too_large);
    tcase_add_test(t, fifty_at_most);
    tcase_add_test(t, messages_are_filled);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    bad = srunner_ntests_failed(r);
    srunner_free(r);
    return bad != 0;
}
