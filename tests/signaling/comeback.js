// Two sockets of one Socket.IO client version that join a room, and join it again whenever they have lost the server.
//
//   node comeback.js URL VERSION ROUNDS
//
// Prints `in` when both are in the room, and `back MS` when both are in it again, MS after the first noticed the loss.
'use strict';

const [url, version, rounds] = process.argv.slice(2);
const io = require(`socket.io-client-${version}`);

// Those of another version may not be gone yet.
const ROOM = `comeback ${version}`;
let inside = 0;
let lostAt = null;
let left = Number(rounds);

for (const transports of [['websocket'], ['polling', 'websocket']]) {
  const socket = io(url, { forceNew: true, transports });
  socket.on('connect', () => socket.emit('join', ROOM));
  socket.on('joined', () => {
    inside += 1;
    if (inside < 2) return;
    if (lostAt === null) {
      console.log('in');
    } else {
      console.log(`back ${Date.now() - lostAt}`);
      lostAt = null;
      left -= 1;
      if (left === 0) process.exit(0);
    }
  });
  socket.on('full', () => { console.log('full'); process.exit(1); });
  socket.on('disconnect', () => {
    inside -= 1;
    lostAt = lostAt || Date.now();
  });
}
setTimeout(() => { console.log('too late'); process.exit(1); }, 60000);
