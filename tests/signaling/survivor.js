// Two sockets of Socket.IO client 4 in one room, for as long as somebody asks after them.
//
//   node survivor.js URL
//
// Prints `joined`. Then, for each line on standard input, one of them tells the other something: prints `held` once it
// was heard by the sockets that joined, or `lost` and the reason.
'use strict';

const readline = require('readline');
const io = require('socket.io-client-4');

const WAIT_MS = 10000;
const [url] = process.argv.slice(2);
const ROOM = 'survivors';
let lost = null;

function within(promise) {
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error('nothing was heard in time')), WAIT_MS).unref());
  return Promise.race([promise, late]);
}

function join() {
  const socket = io(url, { forceNew: true, transports: ['websocket'], timeout: WAIT_MS });
  socket.on('disconnect', (reason) => { lost = `a socket was closed: ${reason}`; });
  const joined = new Promise((resolve, reject) => {
    socket.on('connect', () => socket.emit('join', ROOM, resolve));
    socket.on('connect_error', reject);
  });
  return within(joined).then(() => socket);
}

async function main() {
  const [one, other] = [await join(), await join()];
  console.log('joined');
  let number = 0;
  for await (const _ of readline.createInterface({ input: process.stdin })) {
    const text = `message ${number += 1}`;
    const heard = new Promise((resolve) => {
      other.once('message', (room, data) => resolve(room === ROOM && data === text));
    });
    one.emit('message', ROOM, text);
    const isRight = await within(heard).catch((error) => { lost = error.message; });
    console.log(lost ? `lost: ${lost}` : isRight ? 'held' : 'lost: something else was heard');
  }
  process.exit(0);
}

main().catch((error) => {
  console.log(`lost: ${error.message}`);
  process.exit(1);
});
