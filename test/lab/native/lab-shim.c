/*
 * Preloaded into every command of the lab's shell. Gives files the locks that VMFS would give them: the
 * daemon keeps an entry `<device>-<inode>` (hexadecimal) in its lock folder, whose first byte says
 *   x  nobody else may open, remove or rename the file (EBUSY)
 *   r  it may be opened for reading only
 * Also refuses to run programs that did not come with the host (execInstalledOnly), and lets writes
 * below /vmfs/volumes fail with ENOSPC while the datastore is said to be full.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define RUN "/var/run/lab/"
#define NEXT(name) __typeof__(&name) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int real_open(const char *path, int flags) {
  static int (*next)(int, const char *, int, ...);
  if (next == NULL) next = (int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, "openat64");
  return next(AT_FDCWD, path, flags);
}

/* 0, 'x' or 'r' */
static int lock_of(int folder, const char *path, int follow) {
  struct stat64 st;
  int saved = errno;
  if (fstatat64(folder, path, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode)) {
    errno = saved;
    return 0;
  }
  char entry[96];
  snprintf(entry, sizeof entry, RUN "locks/%lx-%lx", (unsigned long)st.st_dev, (unsigned long)st.st_ino);
  int file = real_open(entry, O_RDONLY | O_CLOEXEC);
  errno = saved;
  if (file < 0) return 0;
  char mode = 'x';
  if (read(file, &mode, 1) != 1) mode = 'x';
  close(file);
  errno = saved;
  return mode;
}

static int may_open(int folder, const char *path, int flags) {
  int lock = lock_of(folder, path, 1);
  int writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0;
  if (lock == 'x' || (lock == 'r' && writes)) {
    errno = EBUSY;
    return 0;
  }
  return 1;
}

static int may_remove(int folder, const char *path) {
  if (lock_of(folder, path, 0) == 0) return 1;
  errno = EBUSY;
  return 0;
}

#define MODE_OF(flags, mode)                      \
  mode_t mode = 0;                                \
  if ((flags) & (O_CREAT | __O_TMPFILE)) {        \
    va_list list;                                 \
    va_start(list, flags);                        \
    mode = va_arg(list, mode_t);                  \
    va_end(list);                                 \
  }

int open(const char *path, int flags, ...) {
  MODE_OF(flags, mode)
  NEXT(open);
  return may_open(AT_FDCWD, path, flags) ? next(path, flags, mode) : -1;
}
int open64(const char *path, int flags, ...) {
  MODE_OF(flags, mode)
  NEXT(open64);
  return may_open(AT_FDCWD, path, flags) ? next(path, flags, mode) : -1;
}
int openat(int folder, const char *path, int flags, ...) {
  MODE_OF(flags, mode)
  NEXT(openat);
  return may_open(folder, path, flags) ? next(folder, path, flags, mode) : -1;
}
int openat64(int folder, const char *path, int flags, ...) {
  MODE_OF(flags, mode)
  NEXT(openat64);
  return may_open(folder, path, flags) ? next(folder, path, flags, mode) : -1;
}
int creat(const char *path, mode_t mode) {
  NEXT(creat);
  return may_open(AT_FDCWD, path, O_WRONLY | O_TRUNC) ? next(path, mode) : -1;
}
int creat64(const char *path, mode_t mode) {
  NEXT(creat64);
  return may_open(AT_FDCWD, path, O_WRONLY | O_TRUNC) ? next(path, mode) : -1;
}
static int flags_of(const char *mode) { return mode[0] == 'r' && strchr(mode, '+') == NULL ? O_RDONLY : O_RDWR; }
FILE *fopen(const char *path, const char *mode) {
  NEXT(fopen);
  return may_open(AT_FDCWD, path, flags_of(mode)) ? next(path, mode) : NULL;
}
FILE *fopen64(const char *path, const char *mode) {
  NEXT(fopen64);
  return may_open(AT_FDCWD, path, flags_of(mode)) ? next(path, mode) : NULL;
}
int unlink(const char *path) {
  NEXT(unlink);
  return may_remove(AT_FDCWD, path) ? next(path) : -1;
}
int unlinkat(int folder, const char *path, int flags) {
  NEXT(unlinkat);
  return may_remove(folder, path) ? next(folder, path, flags) : -1;
}
int remove(const char *path) {
  NEXT(remove);
  return may_remove(AT_FDCWD, path) ? next(path) : -1;
}
int rename(const char *from, const char *to) {
  NEXT(rename);
  return may_remove(AT_FDCWD, from) && may_remove(AT_FDCWD, to) ? next(from, to) : -1;
}
int renameat(int from_folder, const char *from, int to_folder, const char *to) {
  NEXT(renameat);
  return may_remove(from_folder, from) && may_remove(to_folder, to) ? next(from_folder, from, to_folder, to) : -1;
}
int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned int flags) {
  NEXT(renameat2);
  return may_remove(from_folder, from) && may_remove(to_folder, to) ? next(from_folder, from, to_folder, to, flags) : -1;
}
int truncate(const char *path, off_t length) {
  NEXT(truncate);
  return may_open(AT_FDCWD, path, O_WRONLY) ? next(path, length) : -1;
}
int truncate64(const char *path, off64_t length) {
  NEXT(truncate64);
  return may_open(AT_FDCWD, path, O_WRONLY) ? next(path, length) : -1;
}

/* A datastore without room: an entry `full/<device>-<inode of its folder>`; looked up once a file. */
#define FULL_CACHE 256
static struct { unsigned long device, inode; char volume[64]; } opened[FULL_CACHE];

static int has_room(int file) {
  static int any = -1;
  static unsigned calls;
  if (any < 0 || (calls++ & 63) == 0) any = access(RUN "full/any", F_OK) == 0;
  if (!any || file < 0 || file >= FULL_CACHE) return 1;
  int saved = errno;
  struct stat64 st;
  if (fstat64(file, &st) != 0 || !S_ISREG(st.st_mode)) { errno = saved; return 1; }
  if (opened[file].inode != st.st_ino || opened[file].device != st.st_dev) {
    char link[32], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    opened[file].device = st.st_dev;
    opened[file].inode = st.st_ino;
    opened[file].volume[0] = 0;
    const char *at = strstr(path, "/vmfs/volumes/");
    if (at != NULL) {
      at += strlen("/vmfs/volumes/");
      size_t name = strcspn(at, "/");
      if (name < sizeof opened[file].volume) {
        memcpy(opened[file].volume, at, name);
        opened[file].volume[name] = 0;
      }
    }
  }
  int full = 0;
  if (opened[file].volume[0] != 0) {
    char entry[128];
    snprintf(entry, sizeof entry, RUN "full/%s", opened[file].volume);
    full = access(entry, F_OK) == 0;
  }
  errno = full ? ENOSPC : saved;
  return !full;
}
ssize_t write(int file, const void *data, size_t size) {
  static ssize_t (*next)(int, const void *, size_t);
  if (next == NULL) next = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
  return file <= 2 && file != 1 ? next(file, data, size) : has_room(file) ? next(file, data, size) : -1;
}
ssize_t pwrite64(int file, const void *data, size_t size, off64_t offset) {
  NEXT(pwrite64);
  return has_room(file) ? next(file, data, size, offset) : -1;
}
ssize_t sendfile64(int out, int in, off64_t *offset, size_t size) {
  static ssize_t (*next)(int, int, off64_t *, size_t);
  if (next == NULL) next = (ssize_t(*)(int, int, off64_t *, size_t))dlsym(RTLD_NEXT, "sendfile64");
  return has_room(out) ? next(out, in, offset, size) : -1;
}

/* Only what lies where the host's own packages put it may run. */
static int may_run(const char *path) {
  if (access(RUN "flags/exec-installed-only", F_OK) != 0) return 1;
  char resolved[4096];
  int saved = errno;
  if (realpath(path, resolved) == NULL) { errno = saved; return 1; }
  errno = saved;
  const char *installed[] = {"/bin/", "/sbin/", "/usr/", "/lib/", "/lib64/", "/opt/lab/", NULL};
  for (int i = 0; installed[i] != NULL; i++)
    if (strncmp(resolved, installed[i], strlen(installed[i])) == 0) return 1;
  if (access(resolved, X_OK) != 0) return 1;
  errno = EPERM;
  return 0;
}
int execve(const char *path, char *const argv[], char *const envp[]) {
  NEXT(execve);
  return may_run(path) ? next(path, argv, envp) : -1;
}
int execv(const char *path, char *const argv[]) {
  NEXT(execv);
  return may_run(path) ? next(path, argv) : -1;
}
int execvp(const char *path, char *const argv[]) {
  NEXT(execvp);
  return strchr(path, '/') == NULL || may_run(path) ? next(path, argv) : -1;
}
