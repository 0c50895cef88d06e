import { runClient } from './scene.ts';

/** What became of the tests of libiscsi's suite, by `Suite.Test`. */
export interface SuiteResult {
  passed: string[];
  /** With the suite's words. Its own count takes them for passed. */
  skipped: { test: string; reason: string }[];
  failed: string[];
}

const FAMILIES = ['SCSI', 'iSCSI'];

/**
 * Runs libiscsi's `iscsi-test-cu` with two paths to a disk, data loss allowed. @throws when it does not come to its end
 */
export async function runSuite(url: string): Promise<SuiteResult> {
  const result: SuiteResult = { passed: [], skipped: [], failed: [] };
  for (const family of FAMILIES) {
    const { output } = await runClient('iscsi-test-cu', ['-d', '-v', '-t', family, url, url]);
    const [, total, ran] = /tests +(\d+) +(\d+)/.exec(output) ?? [];
    if (total === undefined || ran !== total) throw new Error(`the suite did not end:\n${output.slice(-2000)}`);
    readTests(output, result);
  }
  return result;
}

function readTests(output: string, result: SuiteResult): void {
  for (const suite of output.split(/^Suite: /m).slice(1)) {
    const name = /^\S+/.exec(suite)?.[0] ?? '';
    for (const part of suite.split(/^ {2}Test: /m).slice(1)) {
      const test = `${name}.${/^\S+/.exec(part)?.[0] ?? ''}`;
      const reason = /\[SKIPPED\] (.*)/.exec(part)?.[1];
      if (/^FAILED/m.test(part)) result.failed.push(test);
      else if (reason === undefined) result.passed.push(test);
      else result.skipped.push({ test, reason });
    }
  }
}
