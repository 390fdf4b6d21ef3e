/* Asks for something at set times and says how long each answer took, in microseconds.
 *
 *   load http PORT AT PER_S SPAN_S SEED TAG     POST /v1/allocations over kept connections
 *   load append FILE BYTES PER_S SPAN_S SEED    BYTES appended to FILE, group commit, fdatasync
 *
 * Open loop: both forms ask at the same times, drawn from SEED with exponential gaps, and each
 * time counts from when the request was due, not from when a busy client got round to it. In C,
 * because a client in Python takes longer than what it measures. `append` is the least a durable
 * answer can cost: whoever waits when the disk is free again shares the next fdatasync(2).
 * One line a request, in order: MICROSECONDS d|m|x, for durable, only in memory, or no answer.
 *
 *   cc -O2 -pthread -o load load.c
 */
#define _GNU_SOURCE /* memmem */
#include <arpa/inet.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* Enough that none is busy when its turn comes, at 200/s and half a second an answer. */
#define WORKERS 128
#define ASKED_MAX 1000000
#define ANSWER_MAX 65536
#define ANSWER_S 20
#define LEAD_NS 200000000 /* threads start and connect meanwhile */

static long long due_ns[ASKED_MAX], took_us[ASKED_MAX];
static char verdict[ASKED_MAX];
static int asked;

static int port;
static const char *at, *tag;

static int file;
static char *record;
static size_t record_bytes;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t came = PTHREAD_COND_INITIALIZER, written = PTHREAD_COND_INITIALIZER;
static unsigned long tickets, durable;
static int ended;

static long long now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* Deterministic: both forms of a pair wait for the same moments. */
static void schedule(double per_s, double span_s, unsigned seed)
{
    unsigned long long state = seed * 2654435761ULL + 88172645463325252ULL;
    double s = 0;
    while (asked < ASKED_MAX) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        s += -log(1 - (double)(state >> 11) / 9007199254740992.0) / per_s;
        if (s >= span_s)
            break;
        due_ns[asked++] = (long long)(s * 1e9);
    }
}

static int dial(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct timeval most = {.tv_sec = ANSWER_S};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to))
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
    return fd;
}

/* The whole answer is in `text`: its header's end and as many bytes as that says. */
static int whole(const char *text)
{
    const char *body = strstr(text, "\r\n\r\n"), *length = strcasestr(text, "\r\ncontent-length:");
    return body && length && length < body && strlen(body + 4) >= (size_t)atoi(length + 17);
}

static char over_http(int fd, int number)
{
    char text[ANSWER_MAX], body[256];
    int held = 0, size = snprintf(body, sizeof body,
                                  "{\"request_id\":\"%s-%d\",\"at\":\"%s\",\"class\":\"car\"}", tag,
                                  number, at);
    int bytes = snprintf(text, sizeof text,
                         "POST /v1/allocations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: "
                         "application/json\r\nContent-Length: %d\r\n\r\n%s", size, body);
    if (write(fd, text, bytes) != bytes)
        return 'x';
    text[0] = 0;
    while (!whole(text)) {
        ssize_t got = read(fd, text + held, sizeof text - 1 - held);
        if (got <= 0)
            return 'x';
        held += got;
        text[held] = 0;
    }
    if (strncmp(text, "HTTP/1.1 200", 12))
        return 'x';
    return strstr(text, "\"durable\":true") ? 'd' : 'm';
}

static char appended(void)
{
    pthread_mutex_lock(&lock);
    unsigned long mine = ++tickets;
    pthread_cond_signal(&came);
    while (durable < mine)
        pthread_cond_wait(&written, &lock);
    pthread_mutex_unlock(&lock);
    return 'd';
}

static void *writer(void *none)
{
    (void)none;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (tickets == durable && !ended)
            pthread_cond_wait(&came, &lock);
        if (tickets == durable)
            break;
        unsigned long upto = tickets, count = upto - durable;
        pthread_mutex_unlock(&lock);
        while (count--)
            if (write(file, record, record_bytes) != (ssize_t)record_bytes)
                die("write");
        if (fdatasync(file))
            die("fdatasync");
        pthread_mutex_lock(&lock);
        durable = upto;
        pthread_cond_broadcast(&written);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void *worker(void *first)
{
    int fd = port ? dial() : -1;
    for (int number = (int)(long)first; number < asked; number += WORKERS) {
        struct timespec due = {due_ns[number] / 1000000000, due_ns[number] % 1000000000};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
        verdict[number] = port ? over_http(fd, number) : appended();
        took_us[number] = (now_ns() - due_ns[number]) / 1000;
        if (verdict[number] == 'x')
            close(fd), fd = dial();
    }
    return NULL;
}

int main(int count, char **words)
{
    pthread_t threads[WORKERS], writes;
    if (count == 8 && !strcmp(words[1], "http")) {
        port = atoi(words[2]), at = words[3], tag = words[7];
        schedule(atof(words[4]), atof(words[5]), atoi(words[6]));
    } else if (count == 7 && !strcmp(words[1], "append")) {
        record_bytes = atoi(words[3]), record = malloc(record_bytes);
        file = open(words[2], O_CREAT | O_WRONLY | O_APPEND, 0644);
        if (file < 0 || !record)
            die(words[2]);
        memset(record, 'x', record_bytes);
        schedule(atof(words[4]), atof(words[5]), atoi(words[6]));
        pthread_create(&writes, NULL, writer, NULL);
    } else {
        fprintf(stderr, "usage: load http PORT AT PER_S SPAN_S SEED TAG\n"
                        "       load append FILE BYTES PER_S SPAN_S SEED\n");
        return 64;
    }
    long long began = now_ns() + LEAD_NS;
    for (int number = 0; number < asked; number++)
        due_ns[number] += began;
    for (long ix = 0; ix < WORKERS; ix++)
        pthread_create(&threads[ix], NULL, worker, (void *)ix);
    for (int ix = 0; ix < WORKERS; ix++)
        pthread_join(threads[ix], NULL);
    if (!port) {
        pthread_mutex_lock(&lock);
        ended = 1;
        pthread_cond_signal(&came);
        pthread_mutex_unlock(&lock);
        pthread_join(writes, NULL);
    }
    for (int number = 0; number < asked; number++)
        printf("%lld %c\n", took_us[number], verdict[number]);
    return 0;
}
