#include "cli/dr/link.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { CLIENTS = 16, TIMEOUT_S = 10, TOKEN_TEXT = 32 };

struct link_server { struct MHD_Daemon *d; struct link_hooks h; };

static enum MHD_Result answer(struct MHD_Connection *c, unsigned status, const char *text, const char *button)
{
    char page[2048], safe[800];
    struct MHD_Response *r;
    enum MHD_Result ok;
    size_t n = 0;

    for (; *text && n + 8 < sizeof safe; text++)
        n += (size_t)snprintf(safe + n, sizeof safe - n, *text == '<' ? "&lt;" : *text == '>' ? "&gt;" : *text == '&' ? "&amp;" : "%c", *text);
    safe[n] = '\0';
    snprintf(page, sizeof page, "<!DOCTYPE html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>spare</title><body style=\"font:16pt sans-serif;margin:2em\"><p>%s</p>%s%s%s",
             safe, button ? "<form method=post><button style=\"font-size:16pt;padding:.5em 1em\">" : "", button ? button : "", button ? "</button></form>" : "");
    r = MHD_create_response_from_buffer(strlen(page), page, MHD_RESPMEM_MUST_COPY);
    if (!r)
        return MHD_NO;
    (void)MHD_add_response_header(r, "Content-Type", "text/html; charset=utf-8");
    (void)MHD_add_response_header(r, "Cache-Control", "no-store");
    (void)MHD_add_response_header(r, "Referrer-Policy", "no-referrer");
    ok = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return ok;
}

static enum MHD_Result handle(void *arg, struct MHD_Connection *c, const char *url, const char *method, const char *version, const char *data, size_t *len, void **state)
{
    static int seen;
    struct link_server *s = arg;
    const bool post = strcmp(method, "POST") == 0;
    const char *token = strncmp(url, "/ack/", 5) == 0 && strlen(url) == 5 + TOKEN_TEXT ? url + 5 : NULL;
    char about[400] = "";

    (void)version, (void)data;
    if (!*state) {                       /* the first call is for the head alone */
        *state = &seen;
        return MHD_YES;
    }
    if (*len) {                          /* what comes with a POST is of no interest */
        *len = 0;
        return MHD_YES;
    }
    if (!post && strcmp(method, "GET") != 0)
        return answer(c, MHD_HTTP_METHOD_NOT_ALLOWED, "GET, or POST", NULL);
    switch (token ? s->h.look(s->h.arg, token, about, sizeof about) : LINK_UNKNOWN) {
    case LINK_OPEN:
        if (!post)
            return answer(c, MHD_HTTP_OK, about, "Acknowledge");
        if (s->h.ack(s->h.arg, token))
            return answer(c, MHD_HTTP_INTERNAL_SERVER_ERROR, "It could not be noted. Use the command.", NULL);
        return answer(c, MHD_HTTP_OK, "Acknowledged. Thank you.", NULL);
    case LINK_USED: return answer(c, MHD_HTTP_GONE, "This was acknowledged already.", NULL);
    default: return answer(c, MHD_HTTP_NOT_FOUND, "There is nothing here.", NULL);
    }
}

int link_start(const char *listen, const struct link_hooks *h, struct link_server **out, struct err *err)
{
    struct addrinfo hints = { .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM }, *a = NULL;
    const char *colon = strrchr(listen, ':');
    char host[256];
    size_t n = colon ? (size_t)(colon - listen) : 0;
    struct link_server *s;

    if (!colon || n == 0 || n >= sizeof host)
        return err_set(err, ERR_USAGE, "%s: expected ADDRESS:PORT", listen);
    if (listen[0] == '[' && listen[n - 1] == ']')
        snprintf(host, sizeof host, "%.*s", (int)n - 2, listen + 1);
    else
        snprintf(host, sizeof host, "%.*s", (int)n, listen);
    if (getaddrinfo(host, colon + 1, &hints, &a))
        return err_set(err, ERR_USAGE, "%s: expected ADDRESS:PORT, the address in numbers", listen);
    s = calloc(1, sizeof *s);
    if (s) {
        s->h = *h;
        s->d = MHD_start_daemon((a->ai_family == AF_INET6 ? MHD_USE_IPv6 : MHD_NO_FLAG), 0, NULL, NULL, handle, s, MHD_OPTION_SOCK_ADDR, a->ai_addr, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CLIENTS,
                                MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)16384, MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_END);
    }
    freeaddrinfo(a);
    if (s && s->d) {
        *out = s;
        return 0;
    }
    free(s);
    return err_set(err, ERR_BUSY, "%s: cannot be listened on: %s", listen, strerror(errno));
}

void link_serve(struct link_server *s, unsigned ms)
{
    if (s)
        (void)MHD_run_wait(s->d, (int32_t)ms);
    else
        (void)poll(NULL, 0, (int)ms);
}

void link_stop(struct link_server *s)
{
    if (!s)
        return;
    MHD_stop_daemon(s->d);
    free(s);
}
