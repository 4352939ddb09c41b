// SPDX-License-Identifier: MIT
'use strict';
const assert = require('assert');
const { client: Redis, values, same, run } = require('./common.js');

run(async (port, protocol) => {
  const r = new Redis({ port, host: '127.0.0.1', protocol, maxRetriesPerRequest: 1 });
  assert.strictEqual(await r.flushall(), 'OK');
  assert.match(await r.client('LIST'), new RegExp(`resp=${protocol}`));
  for (const [n, value] of values.entries()) {
    assert.strictEqual(await r.set(`k${n}`, value), 'OK');
    same(await r.getBuffer(`k${n}`), value, `k${n}`);
  }
  const all = await r.mgetBuffer(values.map((_, n) => `k${n}`));
  values.forEach((value, n) => same(all[n], value, `mget ${n}`));
  assert.strictEqual(await r.get('absent'), null);
  assert.strictEqual(await r.set('nx', 1, 'EX', 100, 'NX'), 'OK');
  assert.strictEqual(await r.set('nx', 2, 'NX'), null);
  assert.ok((await r.ttl('nx')) >= 99);
  assert.strictEqual(await r.incr('n'), 1);
  await assert.rejects(r.incr('k2'), /not an integer/);

  const pipe = r.pipeline();
  for (let n = 0; n < 1000; n++) pipe.set(`p${n}`, n).get(`p${n}`);
  const replies = await pipe.exec();
  assert.strictEqual(replies.length, 2000);
  replies.forEach(([error, reply], n) => {
    assert.strictEqual(error, null);
    assert.strictEqual(reply, n % 2 ? String((n - 1) / 2) : 'OK');
  });

  const multi = r.multi();
  values.forEach((value, n) => multi.set(`t${n}`, value));
  const done = await multi.getBuffer('t6').exec();
  same(done[values.length][1], values[6], 'multi');

  const other = r.duplicate();
  await r.watch('w');
  await other.set('w', 1);
  assert.strictEqual(await r.multi().set('w', 2).exec(), null);

  const found = new Set();
  for await (const keys of r.scanStream({ match: 'p*', count: 100 })) keys.forEach((k) => found.add(k));
  assert.strictEqual(found.size, 1000);
  assert.match(await r.info('server'), /redis_version/);
  assert.strictEqual(await r.unlink('k0', 'k1'), 2);
  await assert.rejects(r.call('NOSUCH', 'x'), /unknown command/);
  other.disconnect();
  assert.strictEqual(await r.quit(), 'OK');
});
