// SPDX-License-Identifier: MIT
// What the clients' scripts share: their arguments, and values around the sizes where the server's
// path changes.        node SCRIPT.js PORT PROTOCOL PACKAGE
'use strict';
const crypto = require('crypto');

exports.values = [0, 1, 16383, 16384, 16385, 100000, 2 << 20, (2 << 20) + 1, 32 << 20]
  .map((size) => crypto.randomBytes(size));

exports.same = (got, want, what) => {
  if (!Buffer.isBuffer(got) || !got.equals(want)) {
    throw new Error(`${what}: ${got && got.length} bytes in place of ${want.length}`);
  }
};

const [port, protocol, name] = process.argv.slice(2);
exports.client = require(name);

exports.run = (main) => main(Number(port), Number(protocol))
  .then(() => { console.log(`ok ${name}`); process.exit(0); })
  .catch((error) => { console.error(error); process.exit(1); });
