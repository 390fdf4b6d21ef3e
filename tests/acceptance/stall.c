/* A disk that stalls: loaded before the C library, it makes each barrier take its time.
 *
 * The file that STALL_FILE names holds milliseconds. While it does, each fdatasync(2), fsync(2) and
 * sync_file_range(2) takes at least that long before it begins; the file is read again meanwhile,
 * so that a stall ends when its writer says so. Without the file, or with 0, nothing is delayed.
 *
 *   cc -O2 -shared -fPIC -o stall.so stall.c -ldl
 *   STALL_FILE=/tmp/ms LD_PRELOAD=./stall.so parkway run ...
 */
#define _GNU_SOURCE /* RTLD_NEXT, sync_file_range */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 5

static long wanted_ms(void)
{
    char text[16] = "";
    const char *path = getenv("STALL_FILE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return 0;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    return got > 0 ? atol(text) : 0;
}

static void stall(void)
{
    struct timespec look = {0, LOOK_MS * 1000000L};
    for (long waited_ms = 0; waited_ms < wanted_ms(); waited_ms += LOOK_MS)
        nanosleep(&look, NULL);
}

int fdatasync(int fd)
{
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    stall();
    return next(fd);
}

int fsync(int fd)
{
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    stall();
    return next(fd);
}

int sync_file_range(int fd, off64_t from, off64_t bytes, unsigned flags)
{
    int (*next)(int, off64_t, off64_t, unsigned) =
        (int (*)(int, off64_t, off64_t, unsigned))dlsym(RTLD_NEXT, "sync_file_range");
    stall();
    return next(fd, from, bytes, flags);
}
