// How a Socket.IO client of one version comes in where access is by key.
//
//   node key.js URL VERSION TRANSPORTS COOKIE      (2 | 3 | 4), with the key in RTCCTL_KEY
//
// Prints `all held`. Ends with 1 and the reason at the first that did not.
'use strict';

const assert = require('assert');

const [url, version, transports, cookie] = process.argv.slice(2);
const key = process.env.RTCCTL_KEY;
const io = require(`socket.io-client-${version}`);
const WAIT_MS = 20000;

/** What comes of connecting: the answer to a join, or the words of a refusal. */
function outcome(options) {
  const socket = io(url, { forceNew: true, reconnection: false, transports: transports.split(','), timeout: WAIT_MS, ...options });
  return new Promise((resolve, reject) => {
    const refused = (error) => resolve(String((error && error.message) || error));
    socket.on('connect', () => socket.emit('join', `${version} ${transports}`, resolve));
    // Version 2 calls it `error`.
    for (const event of ['connect_error', 'error']) socket.on(event, refused);
    setTimeout(() => reject(new Error(`nothing comes of ${JSON.stringify(Object.keys(options))}`)), WAIT_MS).unref();
  }).finally(() => socket.disconnect());
}

async function main() {
  const comesIn = async (what, options) => {
    const answer = await outcome(options);
    assert.strictEqual(answer.ok, true, `${what}: ${JSON.stringify(answer)}`);
    return answer.iceServers.find((server) => server.username).username.split(':')[1];
  };
  const headers = (value) => ({ extraHeaders: { cookie: value } });
  assert.match(await outcome({}), /a key is needed/);
  assert.match(await outcome(headers(`${cookie}x`)), /session has ended/);
  assert.match(await outcome({ query: { key: 'wrong' } }), /key is wrong/);
  const users = [await comesIn('a cookie', headers(cookie)), await comesIn('a cookie', headers(cookie))];
  assert.match(users[0], /^session-/);
  assert.strictEqual(users[0], users[1], 'one browser is one user');
  assert.match(await comesIn('a key in the query', { query: { key } }), /^from-/);
  if (version !== '2') {
    assert.match(await outcome({ auth: { key: 'wrong' } }), /key is wrong/);
    await comesIn('a key in auth', { auth: { key } });
  }
  console.log('all held');
}

main().then(() => process.exit(0), (error) => {
  console.error(error.stack);
  process.exit(1);
});
