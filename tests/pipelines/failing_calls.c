/*
 * Loaded before the C library (LD_PRELOAD): notes the calls that a process and its children make on files below some folders,
 * and lets one of them fail. What to do, and what was done, is in a file that all of them map: FAILING_CALLS names it.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define SHORT 64
#define LONG 4096

/* Groups of calls. */
enum { TAKES_SPACE = 1, CHANGES = 2, READS = 4 };

/* How a call fails: once, with all that follow it, half-written, killed before it, or done and reported as failed. */
enum { ONCE, ON, HALF, KILLED, LATE };

enum verdict { PASS, FAIL, FAIL_LATE, WRITE_HALF };

/* failing_at.py has the same layout. */
static struct {
    _Atomic unsigned used, met, failed; /* bytes of the log; calls of the one that fails; calls that failed */
    unsigned at, way, groups;           /* which one of these calls fails, 0 for none; how; what is counted */
    int error;
    char name[SHORT], path[LONG]; /* the calls of which one fails; * stands for anything in the path */
    char below[LONG];             /* folders, separated by colons */
    char log[1 << 20];            /* a line for each call: its name, whether it failed, its path */
} *state;

__attribute__((constructor)) static void map_state(void) {
    const char *path = getenv("FAILING_CALLS");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *found = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (found != MAP_FAILED)
        state = found;
}

/* Whether a path is one of the folders, or below one. */
static int is_below(const char *path) {
    for (const char *folder = state->below; *folder;) {
        size_t size = strcspn(folder, ":");
        if (!strncmp(path, folder, size) && (path[size] == '/' || !path[size]))
            return 1;
        folder += size + (folder[size] == ':');
    }
    return 0;
}

static void note(const char *name, const char *path, enum verdict verdict) {
    char line[LONG + SHORT];
    unsigned size = snprintf(line, sizeof line, "%s %s %s\n", name, verdict == PASS ? "-" : "failed", path);
    unsigned at = atomic_fetch_add(&state->used, size);
    if (at + size < sizeof state->log)
        memcpy(state->log + at, line, size);
}

static enum verdict choose(const char *name, int group, const char *path, size_t size) {
    int follows = state->failed && state->way == ON && (state->error != ENOSPC || group & TAKES_SPACE);
    if (!follows) {
        if (!state->at || state->failed || (state->way == HALF && size < 2))
            return PASS;
        if (strcmp(name, state->name) || fnmatch(state->path, path, 0) || atomic_fetch_add(&state->met, 1) + 1 != state->at)
            return PASS;
    }
    state->failed++;
    return state->way == HALF ? WRITE_HALF : state->way == LATE ? FAIL_LATE : FAIL;
}

/* What happens to a call on an absolute path. Size: of what it writes. */
static enum verdict judge(const char *name, int group, const char *path, size_t size) {
    if (!is_below(path))
        return PASS;
    enum verdict verdict = choose(name, group, path, size);
    note(name, path, verdict);
    if (verdict == FAIL && state->way == KILLED)
        for (;;)
            kill(getpid(), SIGKILL);
    errno = verdict == PASS ? errno : state->error;
    return verdict;
}

static int resolve(const char *link, char *path, size_t room) {
    int kept = errno;
    ssize_t size = readlink(link, path, room - 1);
    errno = kept;
    path[size < 0 ? 0 : size] = 0;
    return size > 0;
}

static int path_of(int file, char *path, size_t room) {
    char link[64];
    snprintf(link, sizeof link, file == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", file);
    return resolve(link, path, room);
}

static enum verdict judge_file(const char *name, int group, int file, size_t size) {
    char path[LONG];
    if (!state || !(state->groups & group) || !path_of(file, path, sizeof path))
        return PASS;
    return judge(name, group, path, size);
}

static enum verdict judge_path(const char *name, int group, int folder, const char *path) {
    char whole[2 * LONG];
    if (!state || !(state->groups & group) || !path)
        return PASS;
    if (*path == '/')
        return judge(name, group, path, 0);
    if (!path_of(folder, whole, LONG))
        return PASS;
    size_t size = strlen(whole);
    snprintf(whole + size, sizeof whole - size, "/%s", path);
    return judge(name, group, whole, 0);
}

/* The call of this name that the C library has. */
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Makes the call, or says that it failed. */
#define ANSWER(chosen, call)                                   \
    do {                                                       \
        enum verdict answer = (chosen);                        \
        if (answer == FAIL)                                    \
            return -1;                                         \
        if (answer == PASS)                                    \
            return (call);                                     \
        if ((call) >= 0)                                       \
            errno = state->error;                              \
        return -1;                                             \
    } while (0)

#define ON_PATH(name, group, parameters, arguments, folder, path) \
    int name parameters { ANSWER(judge_path(#name, group, folder, path), NEXT(name) arguments); }

#define ON_FILE(name, group, parameters, arguments) \
    int name parameters { ANSWER(judge_file(#name, group, file, 0), NEXT(name) arguments); }

#define WRITING(name, parameters, whole, half, size)                                 \
    ssize_t name parameters {                                                        \
        enum verdict judged = judge_file(#name, TAKES_SPACE | CHANGES, file, size);  \
        if (judged == WRITE_HALF)                                                    \
            return NEXT(name) half;                                                  \
        ANSWER(judged, NEXT(name) whole);                                            \
    }

#define READING(name, parameters, arguments) \
    ssize_t name parameters { ANSWER(judge_file(#name, READS, file, 0), NEXT(name) arguments); }

#define OPENING(name, parameters, arguments, folder)                                                \
    int name parameters {                                                                           \
        mode_t mode = 0;                                                                            \
        if (flags & (O_CREAT | O_TMPFILE)) {                                                        \
            va_list rest;                                                                           \
            va_start(rest, flags);                                                                  \
            mode = va_arg(rest, mode_t);                                                            \
            va_end(rest);                                                                           \
        }                                                                                           \
        int writes = flags & O_CREAT ? TAKES_SPACE | CHANGES : flags & O_ACCMODE ? CHANGES : READS; \
        ANSWER(judge_path(#name, writes, folder, path), NEXT(name) arguments);                      \
    }

OPENING(open, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD)
OPENING(open64, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD)
OPENING(openat, (int folder, const char *path, int flags, ...), (folder, path, flags, mode), folder)
OPENING(openat64, (int folder, const char *path, int flags, ...), (folder, path, flags, mode), folder)

WRITING(write, (int file, const void *data, size_t size), (file, data, size), (file, data, size / 2), size)
WRITING(pwrite, (int file, const void *data, size_t size, off_t at), (file, data, size, at), (file, data, size / 2, at), size)
WRITING(pwrite64, (int file, const void *data, size_t size, off64_t at), (file, data, size, at), (file, data, size / 2, at), size)
/* Half of several pieces: but the last one. */
WRITING(writev, (int file, const struct iovec *parts, int size), (file, parts, size), (file, parts, size - 1), size)
WRITING(pwritev, (int file, const struct iovec *parts, int size, off_t at), (file, parts, size, at),
        (file, parts, size - 1, at), size)
WRITING(pwritev64, (int file, const struct iovec *parts, int size, off64_t at), (file, parts, size, at),
        (file, parts, size - 1, at), size)

ON_FILE(fsync, TAKES_SPACE | CHANGES, (int file), (file))
ON_FILE(fdatasync, TAKES_SPACE | CHANGES, (int file), (file))
ON_FILE(ftruncate, CHANGES, (int file, off_t size), (file, size))
ON_FILE(ftruncate64, CHANGES, (int file, off64_t size), (file, size))
ON_FILE(fallocate, TAKES_SPACE | CHANGES, (int file, int mode, off_t at, off_t size), (file, mode, at, size))
ON_FILE(fallocate64, TAKES_SPACE | CHANGES, (int file, int mode, off64_t at, off64_t size), (file, mode, at, size))
ON_FILE(fchmod, CHANGES, (int file, mode_t mode), (file, mode))
ON_FILE(fchown, CHANGES, (int file, uid_t user, gid_t group), (file, user, group))

/* These return the error. */
int posix_fallocate(int file, off_t at, off_t size) {
    return judge_file("posix_fallocate", TAKES_SPACE | CHANGES, file, 0) == PASS ? NEXT(posix_fallocate)(file, at, size) : errno;
}
int posix_fallocate64(int file, off64_t at, off64_t size) {
    return judge_file("posix_fallocate64", TAKES_SPACE | CHANGES, file, 0) == PASS ? NEXT(posix_fallocate64)(file, at, size)
                                                                                  : errno;
}

/* A file is closed also where that is reported as failed; it may be the first to say that there was no space. */
int close(int file) {
    int flags = state && state->groups & CHANGES ? fcntl(file, F_GETFL) : -1;
    enum verdict judged = flags >= 0 && flags & O_ACCMODE ? judge_file("close", TAKES_SPACE | CHANGES, file, 0) : PASS;
    ANSWER(judged == FAIL ? FAIL_LATE : judged, NEXT(close)(file));
}

ON_PATH(rename, TAKES_SPACE | CHANGES, (const char *from, const char *to), (from, to), AT_FDCWD, to)
ON_PATH(renameat, TAKES_SPACE | CHANGES, (int old, const char *from, int folder, const char *to), (old, from, folder, to), folder, to)
ON_PATH(renameat2, TAKES_SPACE | CHANGES, (int old, const char *from, int folder, const char *to, unsigned flags),
        (old, from, folder, to, flags), folder, to)
ON_PATH(link, TAKES_SPACE | CHANGES, (const char *from, const char *to), (from, to), AT_FDCWD, to)
ON_PATH(linkat, TAKES_SPACE | CHANGES, (int old, const char *from, int folder, const char *to, int flags),
        (old, from, folder, to, flags), folder, to)
ON_PATH(symlink, TAKES_SPACE | CHANGES, (const char *from, const char *to), (from, to), AT_FDCWD, to)
ON_PATH(mkdir, TAKES_SPACE | CHANGES, (const char *path, mode_t mode), (path, mode), AT_FDCWD, path)
ON_PATH(mkdirat, TAKES_SPACE | CHANGES, (int folder, const char *path, mode_t mode), (folder, path, mode), folder, path)
ON_PATH(unlink, CHANGES, (const char *path), (path), AT_FDCWD, path)
ON_PATH(unlinkat, CHANGES, (int folder, const char *path, int flags), (folder, path, flags), folder, path)
ON_PATH(rmdir, CHANGES, (const char *path), (path), AT_FDCWD, path)
ON_PATH(truncate, CHANGES, (const char *path, off_t size), (path, size), AT_FDCWD, path)
ON_PATH(truncate64, CHANGES, (const char *path, off64_t size), (path, size), AT_FDCWD, path)
ON_PATH(chmod, CHANGES, (const char *path, mode_t mode), (path, mode), AT_FDCWD, path)
ON_PATH(fchmodat, CHANGES, (int folder, const char *path, mode_t mode, int flags), (folder, path, mode, flags), folder, path)
ON_PATH(utimensat, CHANGES, (int folder, const char *path, const struct timespec times[2], int flags),
        (folder, path, times, flags), folder, path)

READING(read, (int file, void *data, size_t size), (file, data, size))
READING(pread, (int file, void *data, size_t size, off_t at), (file, data, size, at))
READING(pread64, (int file, void *data, size_t size, off64_t at), (file, data, size, at))
READING(preadv, (int file, const struct iovec *parts, int size, off_t at), (file, parts, size, at))
READING(preadv64, (int file, const struct iovec *parts, int size, off64_t at), (file, parts, size, at))

ON_PATH(stat, READS, (const char *path, struct stat *found), (path, found), AT_FDCWD, path)
ON_PATH(stat64, READS, (const char *path, struct stat64 *found), (path, found), AT_FDCWD, path)
ON_PATH(lstat, READS, (const char *path, struct stat *found), (path, found), AT_FDCWD, path)
ON_PATH(lstat64, READS, (const char *path, struct stat64 *found), (path, found), AT_FDCWD, path)
ON_PATH(fstatat, READS, (int folder, const char *path, struct stat *found, int flags), (folder, path, found, flags), folder, path)
ON_PATH(fstatat64, READS, (int folder, const char *path, struct stat64 *found, int flags), (folder, path, found, flags), folder,
        path)
ON_FILE(fstat, READS, (int file, struct stat *found), (file, found))
ON_FILE(fstat64, READS, (int file, struct stat64 *found), (file, found))

DIR *opendir(const char *path) {
    return judge_path("opendir", READS, AT_FDCWD, path) == PASS ? NEXT(opendir)(path) : NULL;
}
DIR *fdopendir(int file) {
    return judge_file("fdopendir", READS, file, 0) == PASS ? NEXT(fdopendir)(file) : NULL;
}
