#include "cli/dr/web.h"

#include <curl/curl.h>
#include <string.h>

static size_t ignore(char *p, size_t size, size_t n, void *arg)
{
    (void)p, (void)arg;
    return size * n;
}

int web_send(const char *url, const char *json, long timeout_ms, struct err *err)
{
    char why[CURL_ERROR_SIZE] = "";
    struct curl_slist *head = NULL;
    CURL *c = curl_easy_init();
    long status = 0;
    CURLcode rc;

    if (!c)
        return err_set(err, ERR_NOMEM, "%s: no memory", url);
    (void)curl_easy_setopt(c, CURLOPT_URL, url);
    (void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, timeout_ms);
    (void)curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(c, CURLOPT_ERRORBUFFER, why);
    (void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, ignore);
    (void)curl_easy_setopt(c, CURLOPT_USERAGENT, "spare");
    if (json) {
        head = curl_slist_append(NULL, "Content-Type: application/json");
        (void)curl_easy_setopt(c, CURLOPT_HTTPHEADER, head);
        (void)curl_easy_setopt(c, CURLOPT_POSTFIELDS, json);
    }
    rc = curl_easy_perform(c);
    if (rc == CURLE_OK)
        (void)curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(head);
    curl_easy_cleanup(c);
    if (rc != CURLE_OK)
        return err_set(err, ERR_AWAY, "%s: %s", url, *why ? why : curl_easy_strerror(rc));
    return status / 100 == 2 ? 0 : err_set(err, ERR_AWAY, "%s: expected an answer of 2xx, found %ld", url, status);
}
