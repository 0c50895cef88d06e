import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

/** Challenge handshake of RFC 1994 within an iSCSI login: RFC 7143 section 12.1.3. */

/** IANA's numbers of the hash functions: MD5 is the one that every initiator has. */
const ALGORITHMS = new Map([
  ['5', 'md5'],
  ['7', 'sha256'],
]);
const CHALLENGE_BYTES = 16;

export interface ChapChallenge {
  /** IANA's number, as it goes over the wire. */
  algorithm: string;
  id: number;
  challenge: Buffer;
}

/** A fresh challenge by the first algorithm of the peer's list that is known here; null: none is. */
export function createChallenge(algorithms: string): ChapChallenge | null {
  const algorithm = algorithms.split(',').find((candidate) => ALGORITHMS.has(candidate));
  if (algorithm === undefined) return null;
  const random = randomBytes(CHALLENGE_BYTES + 1);
  return { algorithm, id: random.readUInt8(0), challenge: random.subarray(1) };
}

export function answerChallenge({ algorithm, id, challenge }: ChapChallenge, secret: string): Buffer {
  return createHash(ALGORITHMS.get(algorithm) ?? 'sha256')
    .update(Buffer.from([id]))
    .update(secret, 'utf8')
    .update(challenge)
    .digest();
}

/** Takes the same time whatever is wrong. */
export function isRightAnswer(challenge: ChapChallenge, secret: string, answer: Buffer): boolean {
  const expected = answerChallenge(challenge, secret);
  return answer.length === expected.length && timingSafeEqual(answer, expected);
}
