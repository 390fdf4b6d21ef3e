/* A wall clock that is wrong: loaded before the C library, it shifts CLOCK_REALTIME alone.
 *
 * The file that SHIFT_FILE names holds seconds to add, read at each call, so that its writer sets
 * the clock as a time service would. Every other clock is left as it is.
 *
 *   cc -O2 -shared -fPIC -o shift.so shift.c -ldl
 *   SHIFT_FILE=/tmp/seconds LD_PRELOAD=./shift.so parkway run ...
 */
#define _GNU_SOURCE /* RTLD_NEXT */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long shift_s(void)
{
    char text[24] = "";
    const char *path = getenv("SHIFT_FILE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return 0;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    return got > 0 ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*next)(clockid_t, struct timespec *);
    if (!next)
        next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = next(clock, now);
    if (!failed && clock == CLOCK_REALTIME)
        now->tv_sec += shift_s();
    return failed;
}
