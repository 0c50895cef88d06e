/*
 * One session of the lab's software initiator: logs in to logical unit 0 of a target, says what it is, and then
 * carries out reads and writes until standard input ends (an orderly logout) or the connection is lost.
 *
 * usage: lab-iscsi PORTAL TARGET INITIATOR     CHAP by the environment: CHAP_USER, CHAP_SECRET, and for the
 *                                              target's own proof MUTUAL_USER, MUTUAL_SECRET
 * requests: u8 kind (R read, W write, Z write zeros by WRITE SAME, S synchronize), 3 bytes, u32 tag, u64 offset,
 *           u32 length, u32 zero; then, for W, the bytes
 * answers:  u32 tag, u32 failed, u32 length, then as many bytes: data of R, else words. Tag 0 comes first: what the
 *           unit says of itself, as JSON, or why the login failed.
 * All numbers little endian, offsets and lengths whole blocks of 512 bytes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#define BLOCK 512
#define AHEAD 16
#define LENGTH_MAX (4u << 20)

static struct iscsi_context *iscsi;
static int working;
static unsigned char zeros[BLOCK];

struct request {
  char kind;
  uint32_t tag, length;
  uint64_t offset;
  unsigned char *data;
};

static void put(const void *data, size_t size) {
  const char *at = data;
  while (size > 0) {
    ssize_t n = write(1, at, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) _exit(1);
    at += n;
    size -= n;
  }
}

static void answer(uint32_t tag, uint32_t failed, const void *data, uint32_t length) {
  uint32_t header[3] = {tag, failed, length};
  put(header, sizeof header);
  put(data, length);
}

static void refuse(uint32_t tag, const char *words) { answer(tag, 1, words, strlen(words)); }

static void end_with(const char *words) {
  refuse(0, words);
  _exit(1);
}

static void done(struct iscsi_context *context, int status, void *command, void *private) {
  struct scsi_task *task = command;
  struct request *request = private;
  working--;
  if (status != SCSI_STATUS_GOOD) refuse(request->tag, iscsi_get_error(context));
  else if (request->kind == 'R') answer(request->tag, 0, task->datain.data, task->datain.size);
  else answer(request->tag, 0, NULL, 0);
  scsi_free_scsi_task(task);
  free(request->data);
  free(request);
}

static void begin(struct request *request) {
  uint64_t lba = request->offset / BLOCK;
  uint32_t count = request->length / BLOCK;
  struct scsi_task *task = NULL;
  switch (request->kind) {
    case 'R':
      task = iscsi_read16_task(iscsi, 0, lba, request->length, BLOCK, 0, 0, 0, 0, 0, done, request);
      break;
    case 'W':
      task = iscsi_write16_task(iscsi, 0, lba, request->data, request->length, BLOCK, 0, 0, 0, 0, 0, done, request);
      break;
    case 'Z':
      task = iscsi_writesame16_task(iscsi, 0, lba, zeros, BLOCK, count, 0, 0, 0, 0, done, request);
      break;
    case 'S':
      task = iscsi_synchronizecache16_task(iscsi, 0, 0, 0, 0, 0, done, request);
      break;
  }
  if (task == NULL) {
    refuse(request->tag, iscsi_get_error(iscsi));
    free(request->data);
    free(request);
  } else {
    working++;
  }
}

/* What the VMkernel looks at when a device appears. */
static void describe(void) {
  struct scsi_task *task = iscsi_reportluns_sync(iscsi, 0, 4096);
  if (task == NULL || task->status != SCSI_STATUS_GOOD) end_with(iscsi_get_error(iscsi));
  scsi_free_scsi_task(task);
  /* A new session's unit attention. */
  task = iscsi_testunitready_sync(iscsi, 0);
  if (task != NULL) scsi_free_scsi_task(task);

  task = iscsi_inquiry_sync(iscsi, 0, 0, 0, 255);
  if (task == NULL || task->status != SCSI_STATUS_GOOD) end_with(iscsi_get_error(iscsi));
  struct scsi_inquiry_standard *standard = scsi_datain_unmarshall(task);
  char vendor[9], product[17], revision[5], naa[64] = "", serial[256] = "";
  snprintf(vendor, sizeof vendor, "%s", standard->vendor_identification);
  snprintf(product, sizeof product, "%s", standard->product_identification);
  snprintf(revision, sizeof revision, "%s", standard->product_revision_level);
  scsi_free_scsi_task(task);

  task = iscsi_inquiry_sync(iscsi, 0, 1, 0x83, 255);
  if (task == NULL || task->status != SCSI_STATUS_GOOD) end_with(iscsi_get_error(iscsi));
  struct scsi_inquiry_device_identification *pages = scsi_datain_unmarshall(task);
  for (struct scsi_inquiry_device_designator *one = pages->designators; one != NULL; one = one->next) {
    if (one->designator_type != SCSI_DESIGNATOR_TYPE_NAA || one->association != 0 || one->designator_length > 16) continue;
    for (int i = 0; i < one->designator_length; i++)
      sprintf(naa + 2 * i, "%02x", (unsigned char)one->designator[i]);
  }
  scsi_free_scsi_task(task);

  task = iscsi_inquiry_sync(iscsi, 0, 1, 0x80, 255);
  if (task != NULL && task->status == SCSI_STATUS_GOOD) {
    struct scsi_inquiry_unit_serial_number *number = scsi_datain_unmarshall(task);
    snprintf(serial, sizeof serial, "%s", number->usn);
  }
  if (task != NULL) scsi_free_scsi_task(task);

  task = iscsi_readcapacity16_sync(iscsi, 0);
  if (task == NULL || task->status != SCSI_STATUS_GOOD) end_with(iscsi_get_error(iscsi));
  struct scsi_readcapacity16 *capacity = scsi_datain_unmarshall(task);
  uint64_t blocks = capacity->returned_lba + 1;
  if (capacity->block_length != BLOCK) end_with("blocks that are not of 512 bytes");
  scsi_free_scsi_task(task);

  char text[1024];
  snprintf(text, sizeof text,
           "{\"vendor\":\"%s\",\"model\":\"%s\",\"revision\":\"%s\",\"naa\":\"%s\",\"serial\":\"%s\",\"sizeBytes\":%llu}",
           vendor, product, revision, naa, serial, (unsigned long long)blocks * BLOCK);
  answer(0, 0, text, strlen(text));
}

/* Reads what standard input has; whole requests begin. 0 at its end. */
static int take(void) {
  static struct request *partial;
  static unsigned char header[24];
  static uint32_t filled;
  if (partial == NULL) {
    ssize_t n = read(0, header + filled, sizeof header - filled);
    if (n <= 0) return n < 0 && errno == EINTR;
    filled += n;
    if (filled < sizeof header) return 1;
    filled = 0;
    partial = calloc(1, sizeof *partial);
    partial->kind = header[0];
    memcpy(&partial->tag, header + 4, 4);
    memcpy(&partial->offset, header + 8, 8);
    memcpy(&partial->length, header + 16, 4);
    if (partial->kind == 'W') {
      if (partial->length > LENGTH_MAX) _exit(2);
      partial->data = malloc(partial->length + 1);
    }
  } else {
    ssize_t n = read(0, partial->data + filled, partial->length - filled);
    if (n <= 0) return n < 0 && errno == EINTR;
    filled += n;
  }
  if (partial->kind != 'W' || filled == partial->length) {
    struct request *request = partial;
    partial = NULL;
    filled = 0;
    begin(request);
  }
  return 1;
}

int main(int argc, char **argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: lab-iscsi PORTAL TARGET INITIATOR\n");
    return 2;
  }
  iscsi = iscsi_create_context(argv[3]);
  if (iscsi == NULL) end_with("no context");
  iscsi_set_targetname(iscsi, argv[2]);
  iscsi_set_session_type(iscsi, ISCSI_SESSION_NORMAL);
  iscsi_set_header_digest(iscsi, ISCSI_HEADER_DIGEST_NONE);
  iscsi_set_noautoreconnect(iscsi, 1);
  iscsi_set_timeout(iscsi, 30);
  if (getenv("CHAP_USER") != NULL && getenv("CHAP_SECRET") != NULL)
    iscsi_set_initiator_username_pwd(iscsi, getenv("CHAP_USER"), getenv("CHAP_SECRET"));
  if (getenv("MUTUAL_USER") != NULL && getenv("MUTUAL_SECRET") != NULL)
    iscsi_set_target_username_pwd(iscsi, getenv("MUTUAL_USER"), getenv("MUTUAL_SECRET"));
  if (iscsi_connect_sync(iscsi, argv[1]) != 0 || iscsi_login_sync(iscsi) != 0) end_with(iscsi_get_error(iscsi));
  describe();

  int ended = 0;
  while (!ended || working > 0) {
    struct pollfd files[2] = {
        {.fd = iscsi_get_fd(iscsi), .events = iscsi_which_events(iscsi)},
        {.fd = ended || working >= AHEAD ? -1 : 0, .events = POLLIN},
    };
    if (poll(files, 2, 1000) < 0 && errno != EINTR) return 1;
    if (iscsi_service(iscsi, files[0].revents) != 0 || !iscsi_is_logged_in(iscsi)) return 3;
    if (files[1].revents != 0 && !take()) ended = 1;
  }
  iscsi_logout_sync(iscsi);
  return 0;
}
