/* Many Modbus TCP devices in one thread: what is polled while the poller is measured.
 *
 * Each device is a port on loopback with 2,048 holding registers of its own; it answers functions
 * 3, 6 and 16 for any unit id. One epoll loop in C, so that thousands of requests a second cost the
 * measured process as little of the machine as can be. Commands come as lines on standard input
 * and each is answered by one line; the program ends with its input.
 *
 *   set DEVICE POINT 0|1 ...   bits of registers 0 and up      -> seconds (CLOCK_MONOTONIC)
 *   truth REGISTERS            bits set in the first registers -> {"0": [points], ...}
 *   read DEVICE FIRST COUNT    registers                       -> [values]
 *   stats                      since "forget"                  -> {"0": {"requests", "sweeps"}}
 *   forget                                                     -> seconds
 *
 *   cc -O2 -o devices devices.c && ./devices 5020 5021 ...
 */
#define _GNU_SOURCE /* accept4 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define REGISTERS 2048
#define FRAME_MAX 260 /* Modbus TCP: 7 of header, 253 of PDU */
#define SWEEPS_MAX 65536
#define EVENTS 64

struct device {
    int listener;
    unsigned long requests;
    unsigned sweeps;
    double *swept; /* when register 0 was read */
    uint16_t registers[REGISTERS];
};

struct connection {
    int fd;
    struct device *device;
    unsigned held;
    uint8_t bytes[4 * FRAME_MAX];
};

static struct device *all;
static int devices;
static char *line;
static size_t line_room;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static unsigned word(const uint8_t *at) { return at[0] << 8 | at[1]; }

static unsigned refuse(uint8_t *out, unsigned function, unsigned code)
{
    out[7] = function | 0x80;
    out[8] = code;
    return 9;
}

/* The answer to one request of `length` bytes; how long it is. */
static unsigned answer(struct device *device, const uint8_t *in, unsigned length, uint8_t *out)
{
    unsigned function = in[7], first = length >= 12 ? word(in + 8) : 0;
    unsigned count = length >= 12 ? word(in + 10) : 0, end = 0;
    device->requests++;
    memcpy(out, in, 7);
    if (function == 3 && length == 12 && 1 <= count && count <= 125 && first + count <= REGISTERS) {
        if (first == 0 && device->sweeps < SWEEPS_MAX) device->swept[device->sweeps++] = now();
        out[7] = 3;
        out[8] = 2 * count;
        for (unsigned n = 0; n < count; n++) {
            out[9 + 2 * n] = device->registers[first + n] >> 8;
            out[10 + 2 * n] = device->registers[first + n];
        }
        end = 9 + 2 * count;
    } else if (function == 6 && length == 12 && first < REGISTERS) {
        device->registers[first] = count;
        memcpy(out + 7, in + 7, 5);
        end = 12;
    } else if (function == 16 && length == 13 + 2 * count && 1 <= count && count <= 123
               && first + count <= REGISTERS) {
        for (unsigned n = 0; n < count; n++) device->registers[first + n] = word(in + 13 + 2 * n);
        memcpy(out + 7, in + 7, 5);
        end = 12;
    } else {
        end = refuse(out, function, function == 3 || function == 6 || function == 16 ? 2 : 1);
    }
    out[4] = (end - 6) >> 8;
    out[5] = end - 6;
    return end;
}

/* Reads what came and answers every whole request in it: 0 when the connection is over. */
static int serve(struct connection *peer)
{
    ssize_t got = recv(peer->fd, peer->bytes + peer->held, sizeof peer->bytes - peer->held, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 1;
    if (got <= 0) return 0;
    peer->held += got;
    unsigned at = 0;
    while (peer->held - at >= 8) {
        unsigned length = 6 + word(peer->bytes + at + 4);
        uint8_t out[FRAME_MAX];
        if (length < 8 || length > FRAME_MAX) return 0;
        if (peer->held - at < length) break;
        unsigned end = answer(peer->device, peer->bytes + at, length, out);
        if (send(peer->fd, out, end, MSG_NOSIGNAL) != (ssize_t)end) return 0;
        at += length;
    }
    peer->held -= at;
    memmove(peer->bytes, peer->bytes + at, peer->held);
    return 1;
}

static void truth(int registers)
{
    for (int d = 0; d < devices; d++) {
        printf("%s\"%d\": [", d ? ", " : "{", d);
        for (int point = 0, any = 0; point < registers * 16; point++)
            if (all[d].registers[point / 16] >> (point % 16) & 1)
                printf("%s%d", any++ ? ", " : "", point);
        printf("]");
    }
    printf("}\n");
}

static void stats(void)
{
    for (int d = 0; d < devices; d++) {
        printf("%s\"%d\": {\"requests\": %lu, \"sweeps\": [", d ? ", " : "{", d, all[d].requests);
        for (unsigned n = 0; n < all[d].sweeps; n++)
            printf("%s%.6f", n ? ", " : "", all[d].swept[n]);
        printf("]}");
    }
    printf("}\n");
}

static struct device *named(char *text)
{
    int d = text ? atoi(text) : -1;
    return d >= 0 && d < devices ? &all[d] : NULL;
}

static void command(char *text)
{
    char *op = strtok(text, " \n"), *arg;
    if (op && !strcmp(op, "set")) {
        while ((arg = strtok(NULL, " \n"))) {
            struct device *device = named(arg);
            char *point = strtok(NULL, " \n"), *on = strtok(NULL, " \n");
            if (!device || !point || !on || atoi(point) / 16 >= REGISTERS) break;
            uint16_t bit = 1 << (atoi(point) % 16), *at = &device->registers[atoi(point) / 16];
            *at = atoi(on) ? *at | bit : *at & ~bit;
        }
        printf("%.6f\n", now());
    } else if (op && !strcmp(op, "truth")) {
        arg = strtok(NULL, " \n");
        truth(arg ? atoi(arg) : 0);
    } else if (op && !strcmp(op, "read")) {
        struct device *device = named(strtok(NULL, " \n"));
        char *first = strtok(NULL, " \n"), *count = strtok(NULL, " \n");
        printf("[");
        for (int n = 0; device && first && count && n < atoi(count); n++)
            printf("%s%u", n ? ", " : "", device->registers[(atoi(first) + n) % REGISTERS]);
        printf("]\n");
    } else if (op && !strcmp(op, "stats")) {
        stats();
    } else if (op && !strcmp(op, "forget")) {
        for (int d = 0; d < devices; d++) all[d].requests = all[d].sweeps = 0;
        printf("%.6f\n", now());
    } else {
        printf("{\"error\": \"no such command\"}\n");
    }
    fflush(stdout);
}

/* A port that listens; the program ends where it cannot. */
static int listen_on(const char *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), yes = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (fd == -1 || bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 64)) {
        fprintf(stderr, "port %s: %s\n", port, strerror(errno));
        exit(1);
    }
    return fd;
}

static void add(int queue, int fd, void *data)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = data};
    if (epoll_ctl(queue, EPOLL_CTL_ADD, fd, &event)) exit(1);
}

static void take(int queue, struct device *device)
{
    int fd = accept4(device->listener, NULL, NULL, SOCK_NONBLOCK), yes = 1;
    if (fd == -1) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    struct connection *peer = calloc(1, sizeof *peer);
    if (!peer) exit(1);
    peer->fd = fd;
    peer->device = device;
    add(queue, fd, peer);
}

int main(int argc, char **argv)
{
    struct rlimit files = {4096, 4096};
    setrlimit(RLIMIT_NOFILE, &files);
    devices = argc - 1;
    all = calloc(devices, sizeof *all);
    int queue = epoll_create1(0);
    if (devices < 1 || !all || queue == -1) return 64;
    for (int d = 0; d < devices; d++) {
        all[d].swept = calloc(SWEEPS_MAX, sizeof(double));
        all[d].listener = listen_on(argv[1 + d]);
        add(queue, all[d].listener, &all[d]);
    }
    add(queue, STDIN_FILENO, NULL);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[EVENTS];
        int came = epoll_wait(queue, events, EVENTS, -1);
        for (int n = 0; n < came; n++) {
            void *data = events[n].data.ptr;
            if (!data) {
                if (getline(&line, &line_room, stdin) <= 0) return 0;
                command(line);
            } else if (data >= (void *)all && data < (void *)(all + devices)) {
                take(queue, data);
            } else if (!serve(data)) {
                struct connection *peer = data;
                close(peer->fd);
                free(peer);
            }
        }
    }
}
