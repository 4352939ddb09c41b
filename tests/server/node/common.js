// SPDX-License-Identifier: MIT
// What both clients share: values around the sizes where the server's path changes.
'use strict';
const crypto = require('crypto');

exports.values = [0, 1, 16383, 16384, 16385, 100000, 2 << 20, (2 << 20) + 1, 32 << 20]
  .map((size) => crypto.randomBytes(size));

exports.same = (got, want, what) => {
  if (!Buffer.isBuffer(got) || !got.equals(want)) {
    throw new Error(`${what}: ${got && got.length} bytes in place of ${want.length}`);
  }
};

exports.run = (main) => main(Number(process.argv[2]), Number(process.argv[3]))
  .then((text) => { console.log(`ok ${text}`); process.exit(0); })
  .catch((error) => { console.error(error); process.exit(1); });
