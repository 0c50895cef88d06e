import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isAppError } from '../errors/index.ts';
import { parseRedisUrl, toRedisOptions } from './redis-address.ts';

describe('address of an external Redis', () => {
  it('gives host, port, database, account and TLS', () => {
    const address = parseRedisUrl('rediss://dozo:p%40ss@redis.example:6380/3', { authority: 'PEM' });
    const { retryStrategy, ...options } = toRedisOptions(address);
    assert.equal(retryStrategy(1000), 2000);
    assert.deepEqual(options, {
      maxRetriesPerRequest: null,
      connectTimeout: 10_000,
      keepAlive: 10_000,
      host: 'redis.example',
      port: 6380,
      db: 3,
      username: 'dozo',
      password: 'p@ss',
      tls: { servername: 'redis.example', ca: 'PEM' },
    });
  });

  it('takes the password from apart, and has plain defaults', () => {
    const options = toRedisOptions(parseRedisUrl('redis://[::1]', { password: 'apart' }));
    assert.equal(options.host, '::1');
    assert.equal(options.port, 6379);
    assert.equal(options.password, 'apart');
    assert.equal(options.tls, undefined);
  });

  it('refuses what it does not understand without repeating it', () => {
    for (const url of ['nonsense', 'http://secret@x', 'redis://:secret@', 'redis://:secret@x/nine']) {
      assert.throws(
        () => parseRedisUrl(url),
        (error) => isAppError(error) && error.code === 'INPUT_INVALID' && !error.message.includes('secret'),
        url,
      );
    }
  });
});
