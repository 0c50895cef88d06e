/*
 * vim-cmd, vmkfstools, esxcli, vmware, … in the lab's shell: one program under many names. Sends its
 * name, arguments and folder to the host daemon and copies back what the daemon has to say.
 *
 * request: u32 count, then count strings (u32 length, bytes): program, working folder, terminal
 *          ("1"/""), user, arguments …; as `auth`, standard input is the last string
 * answer:  frames of u8 kind (1 output, 2 errors, 3 end), u32 length, bytes; the end's byte is the status
 * All numbers little endian. Closing the connection (this program killed) tells the daemon to stop.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int put(int to, const void *data, size_t size) {
  const char *at = data;
  while (size > 0) {
    ssize_t n = write(to, at, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return -1;
    at += n;
    size -= n;
  }
  return 0;
}

static int get(int from, void *data, size_t size) {
  char *at = data;
  while (size > 0) {
    ssize_t n = read(from, at, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return -1;
    at += n;
    size -= n;
  }
  return 0;
}

static void append(char **buffer, size_t *size, const void *data, size_t length) {
  uint32_t header = length;
  *buffer = realloc(*buffer, *size + 4 + length);
  if (*buffer == NULL) abort();
  memcpy(*buffer + *size, &header, 4);
  memcpy(*buffer + *size + 4, data, length);
  *size += 4 + length;
}

int main(int argc, char **argv) {
  const char *program = strrchr(argv[0], '/') != NULL ? strrchr(argv[0], '/') + 1 : argv[0];
  int first = 1;
  if (strcmp(program, "lab-client") == 0 && argc > 1) program = argv[first++];
  int is_auth = strcmp(program, "auth") == 0;

  int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/var/run/lab/command.sock"};
  if (server < 0 || connect(server, (struct sockaddr *)&address, sizeof address) != 0) {
    fprintf(stderr, "Failed to login: Connection failure\n");
    return 1;
  }

  char folder[4096] = "/";
  if (getcwd(folder, sizeof folder) == NULL) strcpy(folder, "/");
  const char *user = getenv("PAM_USER") != NULL ? getenv("PAM_USER") : getenv("USER");
  if (user == NULL) user = "root";
  uint32_t count = 4 + (argc - first) + is_auth;
  char *request = malloc(4);
  size_t size = 4;
  memcpy(request, &count, 4);
  append(&request, &size, program, strlen(program));
  append(&request, &size, folder, strlen(folder));
  append(&request, &size, isatty(1) ? "1" : "", isatty(1) ? 1 : 0);
  append(&request, &size, user, strlen(user));
  for (int i = first; i < argc; i++) append(&request, &size, argv[i], strlen(argv[i]));
  if (is_auth) {
    char secret[1024];
    ssize_t n = read(0, secret, sizeof secret);
    append(&request, &size, secret, n < 0 ? 0 : n > 0 && secret[n - 1] == 0 ? n - 1 : n);
  }
  if (put(server, request, size) != 0) return 1;

  for (;;) {
    unsigned char header[5];
    uint32_t length;
    static char body[1 << 20];
    if (get(server, header, 5) != 0) {
      fprintf(stderr, "Connection to the host agent was lost\n");
      return 1;
    }
    memcpy(&length, header + 1, 4);
    if (length > sizeof body || get(server, body, length) != 0) return 1;
    if (header[0] == 3) return (unsigned char)body[0];
    if (put(header[0] == 2 ? 2 : 1, body, length) != 0) return 1;
  }
}
