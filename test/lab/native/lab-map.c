/*
 * Prints where a sparse file has blocks: lines "START LENGTH" in bytes. Node has no lseek.
 * usage: lab-map FILE
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv) {
  int file = argc == 2 ? open(argv[1], O_RDONLY) : -1;
  if (file < 0) {
    perror("lab-map");
    return 1;
  }
  off_t end = lseek(file, 0, SEEK_END);
  for (off_t at = 0; at < end;) {
    off_t data = lseek(file, at, SEEK_DATA);
    if (data < 0) return errno == ENXIO ? 0 : 1;
    off_t hole = lseek(file, data, SEEK_HOLE);
    if (hole < 0) return 1;
    printf("%lld %lld\n", (long long)data, (long long)(hole - data));
    at = hole;
  }
  return 0;
}
