/* A bare poll loop on libmodbus: what the field is measured beside.
 *
 * Reads N holding registers from each of M devices once a period for T seconds, one after the
 * other, decides nothing, and prints what that cost. A device that fails is reconnected at its next
 * turn. This is about the least a poller in C can do.
 *
 *   cc -O2 -o poll_loop poll_loop.c $(pkg-config --cflags --libs libmodbus)
 *   ./poll_loop 40 60 1000 127.0.0.1:5020 127.0.0.1:5021 ...
 */
#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define READ_MAX 125 /* registers in one read (Modbus spec V1.1b3, 6.3) */

struct device {
    modbus_t *context;
    int connected;
};

static double seconds(struct timeval t) { return t.tv_sec + t.tv_usec / 1e6; }

/* Reads all registers of one device: 0, or -1 with errno set. */
static int poll_device(struct device *device, int registers, uint16_t *words)
{
    if (!device->connected) {
        if (modbus_connect(device->context) == -1) return -1;
        device->connected = 1;
    }
    for (int first = 0; first < registers; first += READ_MAX) {
        int count = registers - first < READ_MAX ? registers - first : READ_MAX;
        if (modbus_read_registers(device->context, first, count, words + first) != count) {
            modbus_close(device->context);
            device->connected = 0;
            return -1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: %s REGISTERS SECONDS PERIOD_MS HOST:PORT...\n", argv[0]);
        return 64;
    }
    int registers = atoi(argv[1]), span_s = atoi(argv[2]), period_ms = atoi(argv[3]);
    int devices = argc - 4;
    if (registers < 1 || registers > 65536 || span_s < 1 || period_ms < 1) {
        fprintf(stderr, "REGISTERS is 1 to 65536, SECONDS and PERIOD_MS are above 0\n");
        return 64;
    }
    long turns = span_s * 1000L / period_ms, missed = 0;
    struct device *all = calloc(devices, sizeof *all);
    uint16_t *words = calloc(registers, sizeof *words);
    if (!all || !words) return 1;
    for (int n = 0; n < devices; n++) {
        char *colon = strrchr(argv[4 + n], ':');
        if (!colon) {
            fprintf(stderr, "%s is not HOST:PORT\n", argv[4 + n]);
            return 64;
        }
        *colon = '\0';
        all[n].context = modbus_new_tcp(argv[4 + n], atoi(colon + 1));
        if (!all[n].context) {
            fprintf(stderr, "%s: %s\n", argv[4 + n], modbus_strerror(errno));
            return 1;
        }
        modbus_set_slave(all[n].context, 1);
        modbus_set_response_timeout(all[n].context, 0, 300000);
    }
    long polls = 0, failures = 0;
    unsigned long sum = 0;
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (long turn = 0; turn < turns; turn++) {
        for (int n = 0; n < devices; n++) {
            polls++;
            if (poll_device(&all[n], registers, words) == 0)
                sum += words[registers - 1];
            else
                failures++;
        }
        next.tv_nsec += period_ms * 1000000L;
        next.tv_sec += next.tv_nsec / 1000000000;
        next.tv_nsec %= 1000000000;
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        missed += now.tv_sec > next.tv_sec ||
                  (now.tv_sec == next.tv_sec && now.tv_nsec > next.tv_nsec);
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL) == EINTR)
            ;
    }
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("polls %ld failures %ld late %ld cpu_s %.4f max_rss_kib %ld checksum %lu\n", polls,
           failures,
           missed, seconds(usage.ru_utime) + seconds(usage.ru_stime), usage.ru_maxrss, sum);
    for (int n = 0; n < devices; n++) {
        modbus_close(all[n].context);
        modbus_free(all[n].context);
    }
    free(all);
    free(words);
    return 0;
}
