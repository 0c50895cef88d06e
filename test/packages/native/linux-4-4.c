/*
 * Runs a program as on Linux 4.4, which many NAS have: system calls that came later answer ENOSYS, in the program and in
 * all that it starts. By the numbers of x86-64, of which mlock2 (325) is the last one there: arch/x86/entry/syscalls of
 * Linux 4.4. So there is no copy_file_range, statx, clone3, openat2, io_uring.
 *
 * usage: linux-4-4 PROGRAM ARGUMENT ...
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LAST_CALL 325

int main(int count, char **words) {
  struct sock_filter rules[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, LAST_CALL, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog filter = {sizeof rules / sizeof *rules, rules};
  if (count < 2) return 2;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
    perror("linux-4-4");
    return 1;
  }
  if (syscall(SYS_statx, -1, "", 0, 0, NULL) != -1 || errno != ENOSYS) {
    fputs("linux-4-4: statx is there all the same\n", stderr);
    return 1;
  }
  execvp(words[1], words + 1);
  perror(words[1]);
  return 127;
}
