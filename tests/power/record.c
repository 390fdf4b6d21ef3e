/* Preloaded into a process, writes down in order what it does to the files below one folder, and
 * what it says on its standard output: the record from which tests/power/disk.rs rebuilds what a
 * power cut could have left.
 *
 * POWER_FOLDER: absolute path of the folder; POWER_LOG: the file to append to, outside of it.
 * An event is a head (struct head, host byte order), `name_bytes` of path, then `data_bytes`.
 * Files are told apart by an id given at their making or first sight. One lock keeps the order;
 * a barrier is written down where it begins and where it ends, without the lock in between, so
 * that what is written meanwhile counts as not covered by it. Build:
 * gcc -O2 -shared -fPIC -o record.so record.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { MAKE = 1, WRITE, CUT, BARRIER_BEGINS, BARRIER_ENDS, RENAME, UNLINK, MKDIR, RMDIR, SAY };

struct head {
    uint32_t kind;
    uint32_t name_bytes;
    uint64_t file; /* inode number; made anew by each MAKE */
    uint64_t at;   /* offset, length, or the barrier's number */
    uint64_t data_bytes;
};

#define FDS 4096
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t files[FDS]; /* 0: not below the folder */
static uint64_t barriers;
static int out = -1;
static char folder[PATH_MAX];
static size_t folder_bytes;

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static ssize_t real_write(int fd, const void *data, size_t bytes) {
    REAL(ssize_t, "write", int, const void *, size_t);
    return real(fd, data, bytes);
}

static void note(uint32_t kind, const char *name, uint64_t file, uint64_t at, const void *data,
                 uint64_t bytes) {
    struct head head = {kind, name ? (uint32_t)strlen(name) : 0, file, at, bytes};
    size_t all = sizeof head + head.name_bytes + bytes;
    char *event = malloc(all);
    if (!event) abort();
    memcpy(event, &head, sizeof head);
    if (name) memcpy(event + sizeof head, name, head.name_bytes);
    if (bytes) memcpy(event + sizeof head + head.name_bytes, data, bytes);
    /* One write: a kill leaves whole events, and at most one cut one at the end. */
    if (real_write(out, event, all) != (ssize_t)all) abort();
    free(event);
}

__attribute__((constructor)) static void start(void) {
    const char *where = getenv("POWER_FOLDER"), *log = getenv("POWER_LOG");
    if (!where || !log) return;
    strncpy(folder, where, sizeof folder - 1);
    folder_bytes = strlen(folder);
    int fd = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) abort();
    out = fd;
}

/* The path within the folder, or NULL. Our paths are absolute and plain. */
static const char *inside(const char *path) {
    if (out < 0 || !path || strncmp(path, folder, folder_bytes) != 0) return NULL;
    if (path[folder_bytes] == '\0') return "";
    return path[folder_bytes] == '/' ? path + folder_bytes + 1 : NULL;
}

static const char *inside_at(int dir, const char *path, char *buffer) {
    if (path[0] == '/' || dir == AT_FDCWD) return inside(path);
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
    ssize_t bytes = readlink(link, buffer, PATH_MAX - 1);
    if (bytes < 0 || bytes + strlen(path) + 2 > PATH_MAX) return NULL;
    buffer[bytes] = '/';
    strcpy(buffer + bytes + 1, path);
    return inside(buffer);
}

static uint64_t known(int fd) { return fd >= 0 && fd < FDS ? files[fd] : 0; }

static int opened(int fd, const char *name, int flags, int made) {
    struct stat stat;
    if (fd < 0 || fd >= FDS || fstat(fd, &stat) != 0) return fd;
    files[fd] = stat.st_ino;
    if (made) note(MAKE, name, stat.st_ino, 0, NULL, 0);
    else if (S_ISREG(stat.st_mode) && (flags & O_TRUNC)) note(CUT, NULL, stat.st_ino, 0, NULL, 0);
    return fd;
}

static int open_any(int dir, const char *path, int flags, mode_t mode) {
    REAL(int, "openat", int, const char *, int, ...);
    char buffer[PATH_MAX];
    const char *name = out < 0 ? NULL : inside_at(dir, path, buffer);
    if (!name) {
        int fd = real(dir, path, flags, mode);
        if (fd >= 0 && fd < FDS) files[fd] = 0;
        return fd;
    }
    pthread_mutex_lock(&lock);
    int made = (flags & O_CREAT) && faccessat(dir, path, F_OK, 0) != 0;
    int fd = opened(real(dir, path, flags, mode), name, flags, made);
    pthread_mutex_unlock(&lock);
    return fd;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        return open_any(AT_FDCWD, path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int dir, const char *path, int flags, ...) { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        return open_any(dir, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

static ssize_t pwrite_any(int fd, const void *data, size_t bytes, off_t at) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    uint64_t file = known(fd);
    if (!file) return real(fd, data, bytes, at);
    pthread_mutex_lock(&lock);
    ssize_t done = real(fd, data, bytes, at);
    if (done > 0) note(WRITE, NULL, file, at, data, done);
    pthread_mutex_unlock(&lock);
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at) {
    return pwrite_any(fd, data, bytes, at);
}
ssize_t pwrite64(int fd, const void *data, size_t bytes, off_t at) {
    return pwrite_any(fd, data, bytes, at);
}

ssize_t write(int fd, const void *data, size_t bytes) {
    uint64_t file = known(fd);
    if (out < 0 || fd == out || (!file && fd != 1)) return real_write(fd, data, bytes);
    pthread_mutex_lock(&lock);
    off_t at = file ? lseek(fd, 0, SEEK_CUR) : 0;
    ssize_t done = real_write(fd, data, bytes);
    if (done > 0) note(file ? WRITE : SAY, NULL, file, at, data, done);
    pthread_mutex_unlock(&lock);
    return done;
}

/* Written down as single writes would be: nothing of ours depends on them being one. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    if (out < 0 || (!known(fd) && fd != 1) || count < 1) return real(fd, parts, count);
    return write(fd, parts[0].iov_base, parts[0].iov_len);
}

static int cut_any(int fd, off_t length) {
    REAL(int, "ftruncate", int, off_t);
    uint64_t file = known(fd);
    if (!file) return real(fd, length);
    pthread_mutex_lock(&lock);
    int done = real(fd, length);
    if (done == 0) note(CUT, NULL, file, length, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}
int ftruncate(int fd, off_t length) { return cut_any(fd, length); }
int ftruncate64(int fd, off_t length) { return cut_any(fd, length); }

static int barrier(int fd, int (*real)(int)) {
    uint64_t file = known(fd);
    if (!file) return real(fd);
    pthread_mutex_lock(&lock);
    uint64_t number = ++barriers;
    note(BARRIER_BEGINS, NULL, file, number, NULL, 0);
    pthread_mutex_unlock(&lock);
    int done = real(fd);
    pthread_mutex_lock(&lock);
    if (done == 0) note(BARRIER_ENDS, NULL, file, number, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}
int fsync(int fd) {
    REAL(int, "fsync", int);
    return barrier(fd, real);
}
int fdatasync(int fd) {
    REAL(int, "fdatasync", int);
    return barrier(fd, real);
}

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    const char *old = inside(from), *new = inside(to);
    if (!old || !new) return real(from, to);
    pthread_mutex_lock(&lock);
    int done = real(from, to);
    if (done == 0) note(RENAME, old, 0, 0, new, strlen(new));
    pthread_mutex_unlock(&lock);
    return done;
}

int unlinkat(int dir, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    char buffer[PATH_MAX];
    const char *name = out < 0 ? NULL : inside_at(dir, path, buffer);
    if (!name) return real(dir, path, flags);
    pthread_mutex_lock(&lock);
    int done = real(dir, path, flags);
    if (done == 0) note(flags & AT_REMOVEDIR ? RMDIR : UNLINK, name, 0, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    const char *name = inside(path);
    if (!name) return real(path, mode);
    pthread_mutex_lock(&lock);
    int done = real(path, mode);
    if (done == 0) note(MKDIR, name, 0, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

int close(int fd) {
    REAL(int, "close", int);
    if (fd >= 0 && fd < FDS) files[fd] = 0;
    return real(fd);
}
