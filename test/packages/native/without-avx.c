/*
 * The interpreter of binfmt_misc for a program that is to run as on a processor without AVX: by qemu-user as a Nehalem,
 * which has SSE4.2 and nothing later, like the oldest processors that DSM 7.2 and QTS 5 run on. What has no fallback
 * ends with SIGILL.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EMULATOR "/bin/qemu-x86_64-static"

int main(int count, char **words) {
  char **all = calloc(count + 3, sizeof *all);
  if (all == NULL || count < 2) return 2;
  all[0] = EMULATOR;
  all[1] = "-cpu";
  all[2] = "Nehalem";
  memcpy(all + 3, words + 1, (count - 1) * sizeof *all);
  execv(EMULATOR, all);
  perror(EMULATOR);
  return 127;
}
