import { answerChallenge, createChallenge, isRightAnswer, type ChapChallenge } from './chap.ts';
import { defaultParameters, negotiateKey, OWN_DATA_SEGMENT_BYTES_MAX, type SessionParameters } from './negotiation.ts';
import { ProtocolError, type Pdu } from './pdu.ts';
import { encodeTextKeys, parseBinary, parseNumber, parseTextKeys } from './text-keys.ts';

/** The login phase as a state machine without a socket: RFC 7143 sections 6.3 and 11.12. */

/** Status class and detail, section 11.13.5. */
export const LOGIN_STATUS = {
  success: 0x0000,
  initiatorError: 0x0200,
  authenticationFailed: 0x0201,
  forbidden: 0x0202,
  targetNotFound: 0x0203,
  unsupportedVersion: 0x0205,
  tooManyConnections: 0x0206,
  missingParameter: 0x0207,
  sessionTypeUnsupported: 0x0209,
  sessionDoesNotExist: 0x020a,
  invalidDuringLogin: 0x020b,
  targetError: 0x0300,
  outOfResources: 0x0302,
} as const;

const STAGE = { security: 0, operational: 1, fullFeature: 3 } as const;
/** Text of one login, continued or not, and of one answer. */
const TEXT_BYTES_MAX = 8192;
/** A login takes four exchanges; whoever needs more is playing. */
const EXCHANGES_MAX = 16;

/** Who may log in to what. Nothing is served to anybody else. */
export interface TargetAccess {
  /** The initiator's iSCSI name, compared as written in lower case. */
  initiatorName: string;
  chapUser: string;
  /** 12 characters at least (RFC 7143 section 9.2.1 asks for 96 bits). */
  chapSecret: string;
  /** By which the target proves itself to the initiator, where that asks for it. */
  mutual?: { user: string; secret: string };
}

export interface LoginDirectory {
  /** All grants of the target to that initiator; null: no such target. */
  grants(targetName: string, initiatorName: string): readonly TargetAccess[] | null;
  /** Grants to that initiator by any target, for a discovery session. */
  allGrants(initiatorName: string): readonly TargetAccess[];
}

/** Who logged in, to what. */
export interface LoginResult {
  initiatorName: string;
  /** Null: a discovery session. */
  targetName: string | null;
  parameters: SessionParameters;
}

export interface LoginStep {
  status: number;
  /** Byte 1 of the response: transit, continue, stages. */
  flags: number;
  text: Buffer;
  /** Set with the answer that ends the login well. */
  result: LoginResult | null;
}

export class LoginNegotiation {
  readonly #directory: LoginDirectory;
  readonly #parameters = defaultParameters();
  readonly #seen = new Set<string>();
  #text: Buffer[] = [];
  #textBytes = 0;
  #exchanges = 0;
  #stage: number | null = null;
  #identity: { initiatorName: string; targetName: string | null; access: readonly TargetAccess[] } | null = null;
  #challenge: ChapChallenge | null = null;
  #authenticated = false;
  #segmentDeclared = false;

  constructor(directory: LoginDirectory) {
    this.#directory = directory;
  }

  /** The answer to one login request. Never throws: what is wrong is a status. */
  take(pdu: Pdu): LoginStep {
    try {
      return this.#take(pdu);
    } catch (error) {
      if (error instanceof ProtocolError) return refuse(LOGIN_STATUS.initiatorError);
      throw error;
    }
  }

  #take(pdu: Pdu): LoginStep {
    const flags = pdu.header.readUInt8(1);
    const transit = (flags & 0x80) !== 0;
    const continued = (flags & 0x40) !== 0;
    const stage = (flags >> 2) & 3;
    const nextStage = flags & 3;
    this.#exchanges += 1;
    this.#textBytes += pdu.data.length;
    if (this.#exchanges > EXCHANGES_MAX || this.#textBytes > TEXT_BYTES_MAX) return refuse(LOGIN_STATUS.initiatorError);
    // Version-min above 0: a protocol that does not exist yet.
    if (pdu.header.readUInt8(3) > 0) return refuse(LOGIN_STATUS.unsupportedVersion);
    if (stage !== STAGE.security && stage !== STAGE.operational) return refuse(LOGIN_STATUS.initiatorError);
    if (this.#stage !== null && stage !== this.#stage) return refuse(LOGIN_STATUS.initiatorError);
    if (transit && (continued || nextStage <= stage || nextStage === 2)) return refuse(LOGIN_STATUS.initiatorError);
    this.#stage = stage;
    this.#text.push(Buffer.from(pdu.data));
    if (continued) return { status: LOGIN_STATUS.success, flags: stage << 2, text: Buffer.alloc(0), result: null };
    const keys = parseTextKeys(Buffer.concat(this.#text));
    this.#text = [];

    const refusal = this.#identity === null ? this.#identify(keys) : null;
    if (refusal !== null) return refuse(refusal);
    const answers: [string, string][] = [];
    if (stage === STAGE.security) {
      const failure = this.#authenticate(keys, answers);
      if (failure !== null) return refuse(failure);
    } else if (!this.#authenticated) return refuse(LOGIN_STATUS.authenticationFailed);
    this.#negotiate(keys, answers);
    return this.#answer(stage, transit ? nextStage : null, answers);
  }

  #answer(stage: number, nextStage: number | null, answers: [string, string][]): LoginStep {
    // The stage changes only once the peer has proven itself; until then the wish is left unanswered.
    const goesOn = nextStage !== null && this.#authenticated;
    if ((stage === STAGE.operational || (goesOn && nextStage === STAGE.fullFeature)) && !this.#segmentDeclared) {
      answers.push(['MaxRecvDataSegmentLength', String(OWN_DATA_SEGMENT_BYTES_MAX)]);
      this.#segmentDeclared = true;
    }
    const text = encodeTextKeys(answers);
    if (text.length > TEXT_BYTES_MAX || this.#identity === null) return refuse(LOGIN_STATUS.initiatorError);
    if (!goesOn) return { status: LOGIN_STATUS.success, flags: stage << 2, text, result: null };
    this.#stage = nextStage;
    const { initiatorName, targetName } = this.#identity;
    if (this.#parameters.firstBurstBytes > this.#parameters.maxBurstBytes)
      this.#parameters.firstBurstBytes = this.#parameters.maxBurstBytes;
    return {
      status: LOGIN_STATUS.success,
      flags: 0x80 | (stage << 2) | nextStage,
      text,
      result: nextStage === STAGE.fullFeature ? { initiatorName, targetName, parameters: this.#parameters } : null,
    };
  }

  /** @returns a status to refuse with, or null */
  #identify(keys: Map<string, string>): number | null {
    const initiatorName = keys.get('InitiatorName')?.toLowerCase();
    if (initiatorName === undefined || initiatorName === '') return LOGIN_STATUS.missingParameter;
    const sessionType = keys.get('SessionType') ?? 'Normal';
    if (sessionType === 'Discovery') {
      this.#identity = { initiatorName, targetName: null, access: this.#directory.allGrants(initiatorName) };
    } else if (sessionType === 'Normal') {
      const targetName = keys.get('TargetName')?.toLowerCase();
      if (targetName === undefined) return LOGIN_STATUS.missingParameter;
      const access = this.#directory.grants(targetName, initiatorName);
      if (access === null) return LOGIN_STATUS.targetNotFound;
      this.#identity = { initiatorName, targetName, access };
    } else return LOGIN_STATUS.sessionTypeUnsupported;
    // A stranger learns the same as someone with a wrong secret.
    return this.#identity.access.length === 0 ? LOGIN_STATUS.authenticationFailed : null;
  }

  #authenticate(keys: Map<string, string>, answers: [string, string][]): number | null {
    const methods = keys.get('AuthMethod');
    if (methods !== undefined) {
      if (!methods.split(',').includes('CHAP')) return LOGIN_STATUS.authenticationFailed;
      answers.push(['AuthMethod', 'CHAP']);
      if (this.#identity?.targetName !== null) answers.push(['TargetPortalGroupTag', '1']);
    }
    const algorithms = keys.get('CHAP_A');
    if (algorithms !== undefined) {
      if (this.#challenge !== null || this.#authenticated) return LOGIN_STATUS.initiatorError;
      this.#challenge = createChallenge(algorithms);
      if (this.#challenge === null) return LOGIN_STATUS.authenticationFailed;
      const { algorithm, id, challenge } = this.#challenge;
      answers.push(['CHAP_A', algorithm], ['CHAP_I', String(id)], ['CHAP_C', `0x${challenge.toString('hex')}`]);
    }
    const user = keys.get('CHAP_N');
    if (user === undefined) return null;
    const own = this.#challenge;
    const answer = parseBinary(keys.get('CHAP_R') ?? '');
    if (own === null || algorithms !== undefined || answer === null) return LOGIN_STATUS.authenticationFailed;
    // Once used, a challenge is gone: no second guess on a connection.
    this.#challenge = null;
    const access = this.#identity?.access.find(
      ({ chapUser, chapSecret }) => chapUser === user && isRightAnswer(own, chapSecret, answer),
    );
    if (access === undefined) return LOGIN_STATUS.authenticationFailed;
    const back = keys.get('CHAP_C');
    if (back !== undefined) {
      const challenge = parseBinary(back);
      const id = parseNumber(keys.get('CHAP_I') ?? '');
      // Our own challenge sent back would make us compute the initiator's answer for it.
      if (challenge === null || challenge.equals(own.challenge) || id === null || id > 255)
        return LOGIN_STATUS.authenticationFailed;
      if (access.mutual === undefined) return LOGIN_STATUS.authenticationFailed;
      const proof = answerChallenge({ algorithm: own.algorithm, id, challenge }, access.mutual.secret);
      answers.push(['CHAP_N', access.mutual.user], ['CHAP_R', `0x${proof.toString('hex')}`]);
    }
    this.#authenticated = true;
    return null;
  }

  #negotiate(keys: Map<string, string>, answers: [string, string][]): void {
    for (const [key, value] of keys) {
      if (key === 'AuthMethod' || key.startsWith('CHAP_')) continue;
      if (this.#seen.has(key)) throw new ProtocolError(`${key} came twice`);
      this.#seen.add(key);
      const answer = negotiateKey(this.#parameters, key, value);
      if (answer !== null) answers.push([key, answer]);
    }
  }
}

function refuse(status: number): LoginStep {
  return { status, flags: 0, text: Buffer.alloc(0), result: null };
}
