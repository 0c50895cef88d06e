/*
 * Has programs that speak to SCSI devices by the kernel's SG_IO speak to a unit over iSCSI instead, by libiscsi: to be
 * preloaded into sg3-utils, which takes any file for the device then.
 *
 * Environment: SG_URL (as libiscsi's programs take it), SG_INITIATOR.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <scsi/sg.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#define INTERFACE_VERSION 30536
#define CHECK_CONDITION 2
#define DRIVER_SENSE 8

static struct iscsi_context *iscsi;
static int lun;

static void end_with_error(void) {
  fprintf(stderr, "sg-io: %s\n", iscsi_get_error(iscsi));
  _Exit(99);
}

static void log_in(void) {
  iscsi = iscsi_create_context(getenv("SG_INITIATOR"));
  struct iscsi_url *url = iscsi_parse_full_url(iscsi, getenv("SG_URL"));
  if (url == NULL) end_with_error();
  iscsi_set_targetname(iscsi, url->target);
  iscsi_set_session_type(iscsi, ISCSI_SESSION_NORMAL);
  iscsi_set_initiator_username_pwd(iscsi, url->user, url->passwd);
  lun = url->lun;
  if (iscsi_full_connect_sync(iscsi, url->portal, lun) != 0) end_with_error();
}

static int carry_out(sg_io_hdr_t *io) {
  int writes = io->dxfer_direction == SG_DXFER_TO_DEV, moves = io->dxfer_direction != SG_DXFER_NONE;
  int direction = writes ? SCSI_XFER_WRITE : moves ? SCSI_XFER_READ : SCSI_XFER_NONE;
  struct iscsi_data data = {.size = io->dxfer_len, .data = io->dxferp};
  struct scsi_task *task = scsi_create_task(io->cmd_len, io->cmdp, direction, io->dxfer_len);
  if (iscsi_scsi_command_sync(iscsi, lun, task, writes ? &data : NULL) == NULL) end_with_error();
  unsigned have = task->datain.size;
  io->status = task->status;
  io->masked_status = (task->status >> 1) & 0x7f;
  io->host_status = io->driver_status = io->info = io->sb_len_wr = io->resid = 0;
  if (direction == SCSI_XFER_READ && task->status == 0) {
    unsigned bytes = have < io->dxfer_len ? have : io->dxfer_len;
    memcpy(io->dxferp, task->datain.data, bytes);
    io->resid = io->dxfer_len - bytes;
  }
  /* Sense lies behind its length of two bytes. */
  if (task->status == CHECK_CONDITION && io->sbp != NULL && have > 2) {
    unsigned bytes = have - 2 < io->mx_sb_len ? have - 2 : io->mx_sb_len;
    memcpy(io->sbp, task->datain.data + 2, bytes);
    io->sb_len_wr = bytes;
    io->driver_status = DRIVER_SENSE;
    io->info = SG_INFO_CHECK;
  }
  scsi_free_scsi_task(task);
  return 0;
}

int ioctl(int file, unsigned long request, ...) {
  va_list list;
  va_start(list, request);
  void *argument = va_arg(list, void *);
  va_end(list);
  if (request != SG_IO && request != SG_GET_VERSION_NUM) {
    int (*plain)(int, unsigned long, void *) = dlsym(RTLD_NEXT, "ioctl");
    return plain(file, request, argument);
  }
  if (iscsi == NULL) log_in();
  if (request == SG_IO) return carry_out(argument);
  *(int *)argument = INTERFACE_VERSION;
  return 0;
}
