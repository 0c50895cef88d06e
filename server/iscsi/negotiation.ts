import { ProtocolError } from './pdu.ts';
import { parseNumber } from './text-keys.ts';

/** Operational keys of a session: RFC 7143 section 13. */

/** Largest data segment that we take; the buffers of a session follow from it. */
export const OWN_DATA_SEGMENT_BYTES_MAX = 256 * 1024;
const BURST_BYTES_MAX = 1024 * 1024;
const FIRST_BURST_BYTES_MAX = 256 * 1024;
const OUTSTANDING_R2T_MAX = 8;
const SEGMENT_LIMIT_BYTES = 2 ** 24 - 1;

export interface SessionParameters {
  headerDigest: boolean;
  dataDigest: boolean;
  /** Largest data segment that the initiator takes. */
  peerDataSegmentBytesMax: number;
  maxBurstBytes: number;
  firstBurstBytes: number;
  initialR2T: boolean;
  immediateData: boolean;
  maxOutstandingR2T: number;
}

/** What holds when a key is not negotiated. */
export function defaultParameters(): SessionParameters {
  return {
    headerDigest: false,
    dataDigest: false,
    peerDataSegmentBytesMax: 8192,
    maxBurstBytes: 262_144,
    firstBurstBytes: 65_536,
    initialR2T: true,
    immediateData: true,
    maxOutstandingR2T: 1,
  };
}

/**
 * Settles one key of the initiator and notes the result.
 * @returns the answer; null where the key only declares something
 * @throws ProtocolError for a declaration that cannot be
 */
export function negotiateKey(parameters: SessionParameters, key: string, value: string): string | null {
  switch (key) {
    case 'HeaderDigest':
    case 'DataDigest': {
      const choice = value.split(',').find((candidate) => candidate === 'CRC32C' || candidate === 'None');
      if (choice === undefined) return 'Reject';
      parameters[key === 'HeaderDigest' ? 'headerDigest' : 'dataDigest'] = choice === 'CRC32C';
      return choice;
    }
    case 'MaxRecvDataSegmentLength': {
      const bytes = numberBetween(value, 512, SEGMENT_LIMIT_BYTES);
      // A declaration has no answer that could refuse it.
      if (bytes === null) throw new ProtocolError(`${key} of ${value}`);
      parameters.peerDataSegmentBytesMax = bytes;
      return null;
    }
    case 'MaxBurstLength':
      return smaller(value, 512, BURST_BYTES_MAX, (bytes) => (parameters.maxBurstBytes = bytes));
    case 'FirstBurstLength':
      return smaller(value, 512, FIRST_BURST_BYTES_MAX, (bytes) => (parameters.firstBurstBytes = bytes));
    case 'MaxOutstandingR2T':
      return smaller(value, 1, OUTSTANDING_R2T_MAX, (count) => (parameters.maxOutstandingR2T = count));
    case 'MaxConnections':
    case 'iSCSIProtocolLevel':
      return smaller(value, key === 'MaxConnections' ? 1 : 0, 1, () => undefined);
    case 'ErrorRecoveryLevel':
    case 'DefaultTime2Retain':
      return smaller(value, 0, 0, () => undefined);
    case 'DefaultTime2Wait':
      return numberBetween(value, 0, 3600)?.toString() ?? 'Reject';
    case 'InitialR2T': {
      const answer = yesOrNo(value);
      if (answer !== null) parameters.initialR2T = answer;
      return answer === null ? 'Reject' : value;
    }
    case 'ImmediateData': {
      const answer = yesOrNo(value);
      if (answer !== null) parameters.immediateData = answer;
      return answer === null ? 'Reject' : value;
    }
    case 'DataPDUInOrder':
    case 'DataSequenceInOrder':
      return yesOrNo(value) === null ? 'Reject' : 'Yes';
    case 'IFMarker':
    case 'OFMarker':
    case 'RDMAExtensions':
      return yesOrNo(value) === null ? 'Reject' : 'No';
    case 'IFMarkInt':
    case 'OFMarkInt':
      return 'Irrelevant';
    case 'TaskReporting':
      return value.split(',').includes('RFC3720') ? 'RFC3720' : 'Reject';
    case 'InitiatorName':
    case 'InitiatorAlias':
    case 'SessionType':
    case 'TargetName':
    case 'TargetAlias':
      return null;
    default:
      return 'NotUnderstood';
  }
}

function smaller(value: string, least: number, own: number, take: (result: number) => void): string {
  const offered = numberBetween(value, least, SEGMENT_LIMIT_BYTES);
  if (offered === null) return 'Reject';
  const result = Math.min(offered, own);
  take(result);
  return String(result);
}

function numberBetween(value: string, least: number, most: number): number | null {
  const number = parseNumber(value);
  return number === null || number < least || number > most ? null : number;
}

function yesOrNo(value: string): boolean | null {
  return value === 'Yes' ? true : value === 'No' ? false : null;
}
