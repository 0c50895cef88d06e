import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { labSoapObstacle } from '../lab/soap/build.ts';

const obstacle = await labSoapObstacle();

test("the lab host's HTTPS side passes its own tests, driven by govmomi", { skip: obstacle ?? false }, () => {
  const result = spawnSync('go', ['test', '-count=1', '-timeout', '120s', '-v', '.'], {
    cwd: join(import.meta.dirname, '../lab/soap'),
    env: { ...process.env, GO111MODULE: 'off', GOPATH: '/usr/share/gocode', CGO_ENABLED: '0' },
    encoding: 'utf8',
  });

  assert.equal(result.status, 0, result.stdout + result.stderr);
  const passed = result.stdout.match(/^--- PASS: /gm) ?? [];
  assert.ok(passed.length >= 15, `only ${passed.length} tests ran`);
});
