/*
 * Holds one lab host: a mount, process, host-name and IPC namespace of its own, in which sshd runs
 * inside the lab's root folder. Being process 1 there, its end is the end of everything started inside,
 * and of every mount: nothing is left when the daemon that feeds its standard input dies, however it dies.
 *
 * usage: lab-jail ROOT RUN HOSTNAME TMP_MIB
 * commands on standard input, one a line, answered by "ok" or "error …":
 *   sshd             start the listener (again)
 *   stop             stop the listener; sessions stay
 *   bind SRC<TAB>DST mount a folder of the machine at DST below ROOT
 *   unbind DST
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *root;
static pid_t listener = -1;

static void fail(const char *what) {
  printf("error %s: %s\n", what, strerror(errno));
  fflush(stdout);
  _exit(1);
}

static char *below(const char *path) {
  char *joined;
  if (asprintf(&joined, "%s%s", root, path) < 0) abort();
  return joined;
}

static void bind_onto(const char *source, const char *target, int read_only) {
  if (mount(source, target, NULL, MS_BIND | MS_REC, NULL) != 0) fail(source);
  if (read_only && mount(NULL, target, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) != 0) fail(target);
}

static void bind_device(const char *name) {
  char source[64], target[4096];
  snprintf(source, sizeof source, "/dev/%s", name);
  snprintf(target, sizeof target, "%s/dev/%s", root, name);
  int file = open(target, O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
  if (file >= 0) close(file);
  bind_onto(source, target, 0);
}

static void reap(int ignored) {
  (void)ignored;
  int saved = errno;
  pid_t ended;
  while ((ended = waitpid(-1, NULL, WNOHANG)) > 0)
    if (ended == listener) listener = -1;
  errno = saved;
}

static void start_listener(void) {
  pid_t child = fork();
  if (child < 0) fail("fork");
  if (child == 0) {
    char *log = below("/var/log/sshd.log");
    int out = open(log, O_CREAT | O_WRONLY | O_APPEND, 0600);
    int in = open("/dev/null", O_RDONLY);
    if (in >= 0) dup2(in, 0);
    if (out >= 0) { dup2(out, 1); dup2(out, 2); }
    setsid();
    if (chroot(root) != 0 || chdir("/") != 0) _exit(1);
    signal(SIGCHLD, SIG_DFL);
    clearenv();
    setenv("PATH", "/bin:/sbin", 1);
    execl("/opt/lab/sshd", "/opt/lab/sshd", "-D", "-e", "-f", "/etc/ssh/sshd_config", (char *)NULL);
    _exit(127);
  }
  listener = child;
}

static void stop_listener(void) {
  pid_t pid = listener;
  if (pid <= 0) return;
  kill(pid, SIGTERM);
  for (int i = 0; i < 200 && listener == pid; i++) usleep(10000);
}

static void inside(const char *run, const char *hostname, const char *tmp_mib) {
  if (sethostname(hostname, strlen(hostname)) != 0) fail("sethostname");
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) fail("private mounts");
  bind_onto("/usr/lib", below("/usr/lib"), 1);
  if (access("/usr/lib64", F_OK) == 0) bind_onto("/usr/lib64", below("/usr/lib64"), 1);
  if (mount("proc", below("/proc"), "proc", 0, NULL) != 0) fail("proc");
  char options[64];
  snprintf(options, sizeof options, "size=%sm,mode=1777", tmp_mib);
  if (mount("tmpfs", below("/tmp"), "tmpfs", 0, options) != 0) fail("tmp");
  if (mount("tmpfs", below("/dev"), "tmpfs", 0, "mode=755,size=64k") != 0) fail("dev");
  const char *devices[] = {"null", "zero", "full", "random", "urandom", "tty", NULL};
  for (int i = 0; devices[i] != NULL; i++) bind_device(devices[i]);
  mkdir(below("/dev/pts"), 0755);
  if (mount("devpts", below("/dev/pts"), "devpts", 0, "newinstance,ptmxmode=0666,mode=620") != 0) fail("devpts");
  if (symlink("pts/ptmx", below("/dev/ptmx")) != 0 || symlink("/proc/self/fd", below("/dev/fd")) != 0) fail("dev links");
  bind_onto(run, below("/var/run/lab"), 0);

  struct sigaction action = {.sa_handler = reap, .sa_flags = SA_RESTART};
  sigaction(SIGCHLD, &action, NULL);
  printf("ok\n");
  fflush(stdout);

  char line[9000];
  while (fgets(line, sizeof line, stdin) != NULL) {
    line[strcspn(line, "\n")] = 0;
    if (strcmp(line, "sshd") == 0) {
      start_listener();
      printf("ok\n");
    } else if (strcmp(line, "stop") == 0) {
      stop_listener();
      printf("ok\n");
    } else if (strncmp(line, "bind ", 5) == 0) {
      char *target = strchr(line, '\t');
      if (target == NULL) { printf("error no target\n"); fflush(stdout); continue; }
      *target++ = 0;
      char *full = below(target);
      if (mount(line + 5, full, NULL, MS_BIND, NULL) == 0) printf("ok\n");
      else printf("error %s\n", strerror(errno));
      free(full);
    } else if (strncmp(line, "unbind ", 7) == 0) {
      char *full = below(line + 7);
      if (umount2(full, MNT_DETACH) == 0) printf("ok\n");
      else printf("error %s\n", strerror(errno));
      free(full);
    } else {
      printf("error unknown command\n");
    }
    fflush(stdout);
  }
  _exit(0);
}

int main(int argc, char **argv) {
  if (argc != 5) {
    fprintf(stderr, "usage: lab-jail ROOT RUN HOSTNAME TMP_MIB\n");
    return 2;
  }
  root = argv[1];
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWPID | CLONE_NEWIPC) != 0) fail("unshare");
  pid_t child = fork();
  if (child < 0) fail("fork");
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    inside(argv[2], argv[3], argv[4]);
  }
  close(0);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
