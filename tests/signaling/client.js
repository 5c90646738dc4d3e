// Plays the room protocol with two or three sockets of one Socket.IO client version over one transport.
//
//   node client.js URL VERSION TRANSPORTS      (2 | 3 | 4; polling | websocket | polling,websocket)
//
// Prints one line for each step that held. Ends with 1 and the reason at the first that did not.
'use strict';

const assert = require('assert');
const [url, version, transports] = process.argv.slice(2);
const io = require(`socket.io-client-${version}`);

const WAIT_MS = 20000;
const MESSAGES = 1000;
const KNOWN = ['joined', 'otherjoin', 'full', 'message', 'bye', 'leaved', 'rejoined', 'error'];

// A socket with everything it was told and has not been asked for yet, in order.
class Caller {
  constructor(name) {
    this.name = name;
    this.told = [];
    this.socket = io(url, { forceNew: true, reconnection: false, transports: transports.split(','), timeout: WAIT_MS });
    for (const event of KNOWN) this.socket.on(event, (...args) => this.hear([event, ...args]));
  }

  hear(what) {
    this.told.push(what);
    if (this.wake) this.wake();
  }

  connected() {
    return within(`${this.name} connects`, new Promise((resolve, reject) => {
      this.socket.on('connect', resolve);
      for (const event of ['connect_error', 'connect_timeout']) this.socket.on(event, reject);
    }));
  }

  get id() { return this.socket.id; }

  emit(...args) { this.socket.emit(...args); }

  async next() {
    while (this.told.length === 0) {
      await within(`${this.name} is told something`, new Promise((resolve) => { this.wake = resolve; }));
    }
    return this.told.shift();
  }

  async hears(...expected) { assert.deepStrictEqual(await this.next(), expected); }

  // Asks something that is answered in order: what came before it has been told by then, and it was nothing.
  async heardNothing(room) {
    await within(`${this.name} joins ${room} again`, new Promise((resolve) => this.socket.emit('join', room, resolve)));
    await this.hears('joined', room, this.id);
  }

  close() { this.socket.disconnect(); }
}

function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`too late: ${what}`)), WAIT_MS); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function held(step) { console.log(`ok ${step}`); }

async function meet(room) {
  const [alice, bob] = [new Caller('alice'), new Caller('bob')];
  await Promise.all([alice.connected(), bob.connected()]);
  alice.emit('join', room);
  await alice.hears('joined', room, alice.id);
  bob.emit('join', room);
  await bob.hears('joined', room, bob.id);
  await alice.hears('otherjoin', room, bob.id);
  return [alice, bob];
}

async function rooms(room) {
  const [alice, bob] = await meet(room);
  const carol = new Caller('carol');
  await carol.connected();
  carol.emit('join', room);
  await carol.hears('full', room, carol.id);
  carol.emit('message', room, 'from outside');
  await alice.heardNothing(room);
  await bob.heardNothing(room);
  held('join, joined, otherjoin, full; a stranger is not heard; joining twice is harmless');

  const offer = { type: 'offer', sdp: 'v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\n', label: 0, nested: [{ candidate: '会议 🙂' }, null, 1.5] };
  alice.emit('message', room, offer);
  await bob.hears('message', room, offer);
  bob.emit('message', room);
  const bare = await alice.next();
  assert.deepStrictEqual(bare.slice(0, 2), ['message', room]);
  assert.ok(bare[2] === undefined || bare[2] === null);
  await alice.heardNothing(room);
  held('message with and without data, not echoed');

  alice.emit('leave', room);
  await alice.hears('leaved', room, alice.id);
  await bob.hears('bye', room, alice.id);
  alice.emit('message', room, 'after leaving');
  alice.emit('join', room);
  await alice.hears('joined', room, alice.id);
  await bob.hears('otherjoin', room, alice.id);
  held('leave, leaved, bye, and back again');

  const bobId = bob.id;
  bob.close();
  await alice.hears('bye', room, bobId);
  carol.emit('join', room);
  await carol.hears('joined', room, carol.id);
  await alice.hears('otherjoin', room, carol.id);
  held('a socket that disconnects says bye and frees its place');
  [alice, carol].forEach((caller) => caller.close());
}

async function acknowledged(room) {
  const alice = new Caller('alice');
  await alice.connected();
  const answer = await within('join is acknowledged', new Promise((resolve) => alice.emit('join', room, resolve)));
  assert.strictEqual(answer.ok, true);
  assert.strictEqual(answer.id, alice.id);
  assert.strictEqual(answer.peers, 0);
  assert.ok(answer.iceServers.some((server) => server.credential && server.username), JSON.stringify(answer));
  held('join is acknowledged with ICE servers');
  alice.close();
}

async function ordered(room) {
  const [alice, bob] = await meet(room);
  // At once: long polling brings them all in a single request.
  for (let each = 0; each < MESSAGES; each += 1) alice.emit('message', room, each);
  for (let each = 0; each < MESSAGES; each += 1) await bob.hears('message', room, each);
  held(`${MESSAGES} messages in order`);
  [alice, bob].forEach((caller) => caller.close());
}

async function odd(room) {
  const [alice, bob] = await meet(room);
  const arguments_ = [[], [null], [7], [{}], [[]], [true], [''], ['x'.repeat(300)], [{ toString: 1 }], [null, null]];
  for (const event of ['join', 'message', 'leave']) {
    for (const each of arguments_) alice.emit(event, ...each);
  }
  alice.emit('nonsense', room, 1);
  for (const name of ['__proto__', 'constructor', 'hasOwnProperty']) alice.emit('message', name, {});
  alice.emit('message', room, 'still here');
  await bob.hears('message', room, 'still here');
  for (const each of await drained(alice, room)) assert.strictEqual(each[0], 'error', JSON.stringify(each));
  held('odd arguments are refused and hurt nobody');
  alice.emit('message', room, Buffer.from([1, 2, 3, 4]));
  alice.emit('message', room, 'after binary');
  for (;;) {
    const [event, , data] = await bob.next();
    assert.strictEqual(event, 'message');
    if (data === 'after binary') break;
  }
  held('binary hurts nobody');
  [alice, bob].forEach((caller) => caller.close());
}

// Brackets so deep that a parser by recursion ends of them.
async function deep(room) {
  const [alice, bob] = await meet(room);
  let nested = [];
  for (let level = 1; level < 1000; level += 1) nested = [nested];
  alice.emit('message', room, nested);
  alice.emit('message', room, 'after brackets');
  await bob.hears('message', room, 'after brackets');
  held('deep nesting is not relayed');
  [alice, bob].forEach((caller) => caller.close());
}

async function oversized(room) {
  const [alice, bob] = await meet(room);
  const lost = within('the sender is cut off', new Promise((resolve) => alice.socket.on('disconnect', resolve)));
  const id = alice.id;
  alice.emit('message', room, 'x'.repeat(1 << 20));
  await lost;
  await bob.hears('bye', room, id);
  held('a message of a megabyte ends its sender alone');
  bob.close();
}

async function drained(caller, room) {
  await within('join', new Promise((resolve) => caller.socket.emit('join', room, resolve)));
  const told = [];
  for (;;) {
    const each = await caller.next();
    if (each[0] === 'joined') return told;
    told.push(each);
  }
}

async function main() {
  await rooms('room 1');
  await rooms('会议室 🎥');
  await rooms('__proto__');
  await acknowledged('acknowledged');
  await ordered('order');
  await odd('odd');
  await deep('deep');
  // The last: what is closed right before the process ends may not reach the server, so no other run may meet it.
  await oversized(`oversized by ${transports}`);
  console.log('all held');
}

main().then(() => process.exit(0), (error) => {
  console.error(error && error.stack ? error.stack : error);
  process.exit(1);
});
