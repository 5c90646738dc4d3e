// Two sockets of Socket.IO client 4 in one room that come back by themselves, as pages do. One of them says a number ten
// times a second whenever both are in.
//
//   node watcher.js URL
//
// Prints `served MS` for each number that the other heard, and `lost MS COUNT` for numbers that were said and skipped;
// MS is the time of the machine's clock. Ends with its standard input.
'use strict';

const io = require('socket.io-client-4');

const [url] = process.argv.slice(2);
const ROOM = 'watchers';
const EVERY_MS = 100;
const inside = new Set();
let said = 0;
let heard = 0;

function join(name, transports) {
  const socket = io(url, { forceNew: true, transports });
  const enter = () => socket.emit('join', ROOM, (answer) => {
    if (answer && answer.ok) {
      inside.add(name);
    } else {
      // The one that was lost is still on its way out.
      setTimeout(() => socket.connected && enter(), EVERY_MS);
    }
  });
  socket.on('connect', enter);
  socket.on('disconnect', () => inside.delete(name));
  // The service that ends a connection means it for now and not for good.
  socket.on('disconnect', (reason) => reason === 'io server disconnect' && socket.connect());
  return socket;
}

const one = join('one', ['websocket']);
const other = join('other', ['polling', 'websocket']);
other.on('message', (_room, number) => {
  const now = Date.now();
  if (number > heard + 1) {
    console.log(`lost ${now} ${number - heard - 1}`);
  }
  heard = Math.max(heard, number);
  console.log(`served ${now}`);
});
setInterval(() => {
  if (inside.size === 2) {
    said += 1;
    one.emit('message', ROOM, said);
  }
}, EVERY_MS);
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
