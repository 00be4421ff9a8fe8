/*
 * A driver for fuzz targets where libFuzzer is not at hand: replays a corpus, then feeds mutated
 * inputs for a time or a number of runs. It keeps no feedback, so that each input depends on
 * (corpus, seed, number) alone: what failed is replayed without what ran before it.
 *
 * Call form: fuzz_X [--seconds N] [--runs N] [--seed S] [--only NUMBER] [--save FILE] [PATH...]
 *   PATH      a file or a folder of files; with neither --seconds, --runs nor --only the corpus
 *             is replayed and nothing else
 *   --only    run just the mutated input of that number, as named by a failure
 *   --save    write that input to FILE as well (needs --only)
 * Exit: 0 all inputs were handled, 2 usage; a failing input ends the program by its signal or the
 * sanitizer's exit status, after a line on stderr that says how to replay it.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

enum {
    INPUT_MAX_BYTES = 64 * 1024,     /* of a mutated input */
    CORPUS_MAX_BYTES = 4 * 1024 * 1024, /* of one corpus file */
    CORPUS_MAX_FILES = 4096,
    HANG_S = 20,                     /* one input may not take longer */
};

struct input {
    char *name;
    uint8_t *data;
    size_t len;
};

static struct input corpus[CORPUS_MAX_FILES];
static size_t corpus_count;

/* What runs now, for the last words. */
static const char *volatile now_file;
static volatile uint64_t now_number;
static uint64_t the_seed = 1;
static volatile sig_atomic_t said;

static void last_words(void)
{
    char line[512];
    int n;

    if (said)
        return;
    said = 1;
    if (now_file)
        n = snprintf(line, sizeof line, "FAILED on corpus file %s\n", now_file);
    else
        n = snprintf(line, sizeof line, "FAILED; replay with the same corpus and: --seed %llu --only %llu\n",
                     (unsigned long long)the_seed, (unsigned long long)now_number);
    if (n > 0 && write(STDERR_FILENO, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1) < 0)
        return;
}

static void on_signal(int sig)
{
    last_words();
    signal(sig, SIG_DFL);
    raise(sig);
}

static uint64_t rng_state;

static uint64_t rng(void) /* splitmix64 */
{
    uint64_t z = (rng_state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static size_t below(size_t n) { return n ? (size_t)(rng() % n) : 0; }

static void die(const char *what, const char *name)
{
    fprintf(stderr, "%s: %s: %s\n", what, name, strerror(errno));
    exit(2);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct input *)a)->name, ((const struct input *)b)->name);
}

static void load_file(const char *path)
{
    struct input *in = &corpus[corpus_count];
    FILE *f = fopen(path, "rb");

    if (!f)
        die("open", path);
    if (corpus_count == CORPUS_MAX_FILES) {
        fprintf(stderr, "more than %d corpus files\n", CORPUS_MAX_FILES);
        exit(2);
    }
    in->data = malloc(CORPUS_MAX_BYTES);
    in->name = strdup(path);
    if (!in->data || !in->name)
        die("malloc", path);
    in->len = fread(in->data, 1, CORPUS_MAX_BYTES, f);
    if (ferror(f))
        die("read", path);
    fclose(f);
    uint8_t *fit = realloc(in->data, in->len ? in->len : 1);
    if (fit)
        in->data = fit;
    corpus_count++;
}

static void load(const char *path)
{
    struct stat st;
    struct dirent *e;
    DIR *d;

    if (stat(path, &st) != 0)
        die("stat", path);
    if (S_ISREG(st.st_mode)) {
        load_file(path);
        return;
    }
    if (!S_ISDIR(st.st_mode))
        return;
    d = opendir(path);
    if (!d)
        die("opendir", path);
    while ((e = readdir(d)) != NULL) {
        char sub[4096];

        if (e->d_name[0] == '.')
            continue;
        if ((size_t)snprintf(sub, sizeof sub, "%s/%s", path, e->d_name) >= sizeof sub)
            continue;
        load(sub);
    }
    closedir(d);
}

/* Runs one input from a heap block of exactly its size, so that a read past it is seen. */
static void feed(const uint8_t *data, size_t len)
{
    uint8_t *exact = malloc(len ? len : 1);

    if (!exact)
        die("malloc", "input");
    if (len)
        memcpy(exact, data, len);
    alarm(HANG_S);
    (void)LLVMFuzzerTestOneInput(exact, len);
    free(exact);
}

static const uint64_t edges[] = {
    0, 1, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000u,
    0xffffffffu, 0x100000000u, 0x7fffffffffffffffu, 0x8000000000000000u, 0xffffffffffffffffu,
};

/* Opens a gap of n bytes at `at`; returns the new length, or len if there is no room. */
static size_t gap(uint8_t *buf, size_t len, size_t at, size_t n)
{
    if (n > INPUT_MAX_BYTES - len)
        return len;
    memmove(buf + at + n, buf + at, len - at);
    return len + n;
}

static size_t mutate_once(uint8_t *buf, size_t len)
{
    size_t at = below(len), n, to;

    switch (rng() % 8) {
    case 0: /* a bit */
        if (len)
            buf[at] = (uint8_t)(buf[at] ^ (1u << below(8)));
        return len;
    case 1: /* a byte */
        if (len)
            buf[at] = (uint8_t)rng();
        return len;
    case 2: /* an integer at an edge, or near what it was */
    {
        static const size_t widths[] = {1, 2, 4, 8};
        uint64_t v = 0;

        n = widths[below(4)];
        if (len < n)
            return len;
        at = below(len - n + 1);
        memcpy(&v, buf + at, n);
        v = rng() % 2 ? edges[below(sizeof edges / sizeof edges[0])] : v + rng() % 17 - 8;
        memcpy(buf + at, &v, n);
        return len;
    }
    case 3: /* cut the tail */
        return below(len + 1);
    case 4: /* remove a range */
        n = below(len - at < 64 ? len - at + 1 : 64);
        memmove(buf + at, buf + at + n, len - at - n);
        return len - n;
    case 5: /* random bytes in between */
        n = 1 + below(32);
        to = gap(buf, len, at, n);
        for (size_t i = 0; to != len && i < n; i++)
            buf[at + i] = (uint8_t)rng();
        return to;
    case 6: /* a range over another */
        n = below(len - at + 1);
        to = below(len);
        if (n > len - to)
            n = len - to;
        memmove(buf + to, buf + at, n);
        return len;
    default: /* the tail of another corpus file */
    {
        const struct input *o;

        if (!corpus_count)
            return len;
        o = &corpus[below(corpus_count)];
        to = below(o->len);
        n = o->len - to;
        if (n > INPUT_MAX_BYTES - at)
            n = INPUT_MAX_BYTES - at;
        memcpy(buf + at, o->data + to, n);
        return at + n;
    }
    }
}

/* Makes input `number`; it depends on nothing but corpus, seed and number. */
static size_t make_input(uint8_t *buf, uint64_t number)
{
    size_t len = 0;

    rng_state = the_seed * 0xd1342543de82ef95u + number;
    rng();
    if (corpus_count && rng() % 16) {
        const struct input *base = &corpus[below(corpus_count)];

        len = base->len < INPUT_MAX_BYTES ? base->len : INPUT_MAX_BYTES;
        memcpy(buf, base->data, len);
    } else {
        len = below(512);
        for (size_t i = 0; i < len; i++)
            buf[i] = (uint8_t)rng();
    }
    for (size_t rounds = 1 + below(8); rounds; rounds--)
        len = mutate_once(buf, len);
    return len;
}

static double seconds_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static uint64_t number_arg(const char *option, const char *text)
{
    char *end = NULL;
    unsigned long long v;

    errno = 0;
    v = text ? strtoull(text, &end, 10) : 0;
    if (!text || end == text || *end || errno) {
        fprintf(stderr, "%s needs a number\n", option);
        exit(2);
    }
    return v;
}

int main(int argc, char **argv)
{
    static uint8_t buf[INPUT_MAX_BYTES];
    uint64_t runs = 0, only = 0, seconds = 0, number = 0;
    const char *save = NULL;
    int has_only = 0;
    double start;

    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0) {
            load(argv[i]);
            continue;
        }
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(argv[i], "--seconds"))
            seconds = number_arg(argv[i], value);
        else if (!strcmp(argv[i], "--runs"))
            runs = number_arg(argv[i], value);
        else if (!strcmp(argv[i], "--seed"))
            the_seed = number_arg(argv[i], value);
        else if (!strcmp(argv[i], "--only"))
            only = number_arg(argv[i], value), has_only = 1;
        else if (!strcmp(argv[i], "--save") && value)
            save = value;
        else {
            fprintf(stderr, "usage: %s [--seconds N] [--runs N] [--seed S] [--only NUMBER] [--save FILE] [PATH...]\n",
                    argv[0]);
            return 2;
        }
        i++;
    }
    qsort(corpus, corpus_count, sizeof corpus[0], by_name);

    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(last_words);
    else
        signal(SIGSEGV, on_signal), signal(SIGBUS, on_signal), signal(SIGFPE, on_signal);
    signal(SIGABRT, on_signal);
    signal(SIGALRM, on_signal);

    if (has_only) {
        size_t len = make_input(buf, only);

        now_number = only;
        if (save) {
            FILE *f = fopen(save, "wb");

            if (!f || fwrite(buf, 1, len, f) != len || fclose(f) != 0)
                die("write", save);
        }
        feed(buf, len);
        printf("input %llu of seed %llu, %zu bytes: handled\n", (unsigned long long)only, (unsigned long long)the_seed, len);
        return 0;
    }
    for (size_t i = 0; i < corpus_count; i++) {
        now_file = corpus[i].name;
        feed(corpus[i].data, corpus[i].len);
    }
    now_file = NULL;
    start = seconds_now();
    while ((runs && number < runs) || (seconds && seconds_now() - start < (double)seconds)) {
        now_number = number;
        feed(buf, make_input(buf, number));
        number++;
    }
    alarm(0);
    for (size_t i = 0; i < corpus_count; i++)
        free(corpus[i].name), free(corpus[i].data);
    printf("%zu corpus files, %llu mutated inputs, seed %llu\n", corpus_count, (unsigned long long)number,
           (unsigned long long)the_seed);
    return 0;
}
