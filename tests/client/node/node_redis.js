// SPDX-License-Identifier: MIT
// node-redis 5 and 6.
'use strict';
const assert = require('assert');
const { client, values, same, run } = require('./common.js');
const { createClient, RESP_TYPES, WatchError } = client;

run(async (port, protocol) => {
  const r = createClient({
    socket: { port, host: '127.0.0.1', reconnectStrategy: false },
    RESP: protocol,
    maintNotifications: 'disabled',
  });
  r.on('error', (error) => { console.error(error); process.exit(1); });
  await r.connect();
  const raw = r.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
  assert.strictEqual(await r.flushAll(), 'OK');
  assert.match(await r.sendCommand(['CLIENT', 'LIST']), new RegExp(`resp=${protocol}`));
  for (const [n, value] of values.entries()) {
    assert.strictEqual(await r.set(`k${n}`, value), 'OK');
    same(await raw.get(`k${n}`), value, `k${n}`);
  }
  const all = await raw.mGet(values.map((_, n) => `k${n}`));
  values.forEach((value, n) => same(all[n], value, `mget ${n}`));
  assert.strictEqual(await r.get('absent'), null);
  assert.strictEqual(await r.sendCommand(['SET', 'nx', '1', 'EX', '100', 'NX']), 'OK');
  assert.strictEqual(await r.sendCommand(['SET', 'nx', '2', 'NX']), null);
  assert.ok((await r.ttl('nx')) >= 99);
  assert.strictEqual(await r.incr('n'), 1);
  await assert.rejects(r.incr('k2'), /not an integer/);

  const many = [];
  for (let n = 0; n < 1000; n++) many.push(r.set(`p${n}`, String(n)), r.get(`p${n}`));
  (await Promise.all(many)).forEach((reply, n) => {
    assert.strictEqual(reply, n % 2 ? String((n - 1) / 2) : 'OK');
  });

  const multi = r.multi();
  values.forEach((value, n) => multi.set(`t${n}`, value));
  const done = await multi.strLen('t8').incr('count').exec();
  assert.deepStrictEqual(done.slice(-2), [values[8].length, 1]);
  same(await raw.get('t8'), values[8], 'multi');

  const other = r.duplicate();
  await other.connect();
  await r.watch('w');
  await other.set('w', '1');
  await assert.rejects(r.multi().set('w', '2').exec(), (e) => e instanceof WatchError);

  const found = new Set();
  for await (const keys of r.scanIterator({ MATCH: 'p*', COUNT: 100 })) [].concat(keys).forEach((k) => found.add(k));
  assert.strictEqual(found.size, 1000);
  assert.match(await r.info('server'), /redis_version/);
  assert.strictEqual(await r.unlink(['k0', 'k1']), 2);
  await assert.rejects(r.sendCommand(['NOSUCH', 'x']), /unknown command/);
  await other.close();
  await r.close();
});
