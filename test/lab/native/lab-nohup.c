/*
 * nohup, which Debian's BusyBox lacks and ESXi's has.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "BusyBox v1.29.3 multi-call binary.\n\nUsage: nohup PROG ARGS\n");
    return 127;
  }
  if (isatty(0)) {
    int null = open("/dev/null", O_RDONLY);
    if (null >= 0) dup2(null, 0);
  }
  if (isatty(1)) {
    int out = open("nohup.out", O_CREAT | O_WRONLY | O_APPEND, 0600);
    if (out >= 0) dup2(out, 1);
  }
  if (isatty(2)) dup2(1, 2);
  signal(SIGHUP, SIG_IGN);
  execvp(argv[1], argv + 1);
  int status = errno == ENOENT ? 127 : 126;
  fprintf(stderr, "nohup: can't execute '%s': %s\n", argv[1], strerror(errno));
  return status;
}
