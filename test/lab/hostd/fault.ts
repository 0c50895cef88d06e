import type { FaultDetail, FaultType } from './protocol.ts';

/** A fault as vSphere's API knows it; the faces (vim-cmd, SOAP front) put it into their words. */
export class HostFault extends Error {
  readonly detail: FaultDetail;

  constructor(
    type: FaultType,
    message: string,
    fields: Record<string, string> = {},
    messages: { key: string; message: string }[] = [],
  ) {
    super(message);
    this.detail = { type, message, fields, messages };
  }
}
