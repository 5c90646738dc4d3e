// The way to the server, with a socket that is made here.

import "./old-node.mjs";

import assert from "node:assert/strict";
import test, { mock } from "node:test";

import { Journal } from "../../templates/web/journal.js";

/** What the page sees of a Socket.IO client. */
class Socket {
  connected = false;
  id = undefined;
  listeners = new Map();
  sent = [];
  active = true;
  connections = 0;
  reconnections = 0;

  on(event, listener) {
    this.listeners.set(event, listener);
  }

  emit(event, ...values) {
    this.sent.push([event, ...values.filter((value) => typeof value !== "function")]);
    this.answer = values.find((value) => typeof value === "function");
  }

  connect() {
    this.active = true;
    this.connections += 1;
  }

  disconnect() {
    [this.connected, this.active] = [false, false];
  }

  reconnect() {
    this.reconnections += 1;
  }

  hear(event, ...values) {
    this.listeners.get(event)?.(...values);
  }

  /** The server does not let it in: a client leaves it at that. */
  isTurnedAway(why) {
    this.active = false;
    this.hear("connect_error", new Error(why));
  }

  comesUp(id = "one") {
    [this.connected, this.id] = [true, id];
    this.hear("connect");
  }

  goesDown(reason) {
    [this.connected, this.id] = [false, undefined];
    this.hear("disconnect", reason);
  }
}

let socket = null;
globalThis.io = ({ auth }) => Object.assign((socket = new Socket()), { shows: auth });
const { PAGE, Signaling } = await import("../../templates/web/signaling.js");

/** Everything that a way to the server tells. */
function start() {
  const signaling = new Signaling();
  const told = [];
  for (const event of ["joined", "other", "returned", "bye", "message", "fresh", "problem", "refused"]) {
    signaling.addEventListener(event, ({ detail }) => told.push([event, detail?.key !== undefined ? [detail.key, detail.detail].filter(Boolean).join(": ") || null : detail]));
  }
  return { signaling, socket, told, names: () => told.map(([event, detail]) => `${event} ${detail ?? ""}`.trim()) };
}

const journal = () => new Journal(() => 0);

test("a room is joined as soon as there is a connection, and again after each interruption", () => {
  const { signaling, socket, names } = start();
  signaling.join("room", journal());
  assert.deepEqual(socket.sent, []);
  socket.comesUp();
  socket.answer({ ok: true, peers: 0 });
  socket.goesDown("transport close");
  socket.comesUp("two");
  assert.deepEqual(socket.sent, [["join", "room"], ["join", "room"]]);
  socket.answer({ ok: true, peers: 1 });
  assert.deepEqual(names(), ["problem", "joined [object Object]", "problem signalingLost", "problem", "joined [object Object]"]);
});

test("a restart that was announced is not told as a loss", () => {
  const { signaling, socket, names } = start();
  signaling.join("room", journal());
  socket.comesUp();
  socket.answer({ ok: true });
  socket.hear("restarting");
  socket.goesDown("transport close");
  socket.comesUp("two");
  socket.answer({ ok: true });
  socket.goesDown("transport close");
  assert.deepEqual(names().slice(2), ["problem serverRestarting", "problem serverRestarting", "problem", "joined [object Object]", "problem signalingLost"]);
});

test("who joins while the server is away hears of no call that goes on", () => {
  const { signaling, socket, names } = start();
  signaling.join("room", journal());
  socket.comesUp();
  socket.answer({ ok: true });
  socket.hear("restarting");
  socket.goesDown("transport close");
  signaling.leave();
  signaling.join("room", journal());
  socket.hear("connect_error", new Error("transport error"));
  assert.equal(names().at(-1), "problem unavailable");
});

test("what concerns another room is not heard", () => {
  const { signaling, socket, told } = start();
  signaling.join("room", journal());
  socket.comesUp();
  socket.hear("message", "elsewhere", { type: "offer" });
  socket.hear("otherjoin", "elsewhere", "id");
  assert.deepEqual(told, []);
  socket.hear("otherjoin", "room", "id");
  assert.deepEqual(told, [["other", "id"]]);
});

test("who leaves while the server is away says nothing later that would undo the next join", () => {
  const { signaling, socket } = start();
  signaling.join("room", journal());
  socket.comesUp();
  socket.goesDown("transport close");
  signaling.leave();
  signaling.join("room", journal());
  socket.comesUp();
  assert.deepEqual(socket.sent.map(([event]) => event), ["join", "join"]);
});

test("each way to be turned away has its own reason", () => {
  const cases = [
    [(socket) => socket.hear("full", "room", "id"), "full"],
    [(socket) => socket.hear("kicked"), "kicked"],
    [(socket) => socket.goesDown("io server disconnect"), "kicked"],
    [(socket) => socket.answer({ ok: false, error: "too many rooms" }), "tooMany"],
    [(socket) => socket.answer({ ok: false, error: "the room is empty" }), "roomRefused: the room is empty"],
    [(socket) => socket.hear("connect_error", new Error("the key is wrong: ask for a new invite link")), "keyWrong"],
    [(socket) => socket.hear("connect_error", new Error("a key is needed: open the invite link")), "keyMissing"],
    [(socket) => socket.hear("connect_error", new Error("the session has ended: open the invite link again")), "keyEnded"],
    [(socket) => socket.hear("connect_error", new Error("too many tries with a key or a session: wait")), "keyLimited"],
  ];
  for (const [act, reason] of cases) {
    const { signaling, socket, told } = start();
    signaling.join("room", journal());
    socket.comesUp();
    act(socket);
    assert.deepEqual(told.filter(([event]) => event === "refused"), [["refused", reason]]);
    assert.equal(socket.connected, false);
  }
});

test("a server without a free place is asked again until it has one", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    const { signaling, socket, names } = start();
    signaling.join("room", journal());
    for (const why of ["the server is full, try again later", "too many connections come from your address, try again later"]) {
      const before = socket.connections;
      socket.isTurnedAway(why);
      assert.equal(names().at(-1), "problem serverFull");
      assert.equal(socket.connections, before);
      mock.timers.tick(10_000);
      assert.equal(socket.connections, before + 1);
    }
    socket.comesUp();
    socket.answer({ ok: true, peers: 0 });
    assert.deepEqual(names().slice(-2), ["problem", "joined [object Object]"]);
    // Also in the middle of a call, and not for who has left.
    socket.goesDown("transport close");
    socket.isTurnedAway("the server is full, try again later");
    signaling.leave();
    const before = socket.connections;
    mock.timers.tick(10_000);
    assert.equal(socket.connections, before);
  } finally {
    mock.timers.reset();
  }
});

test("what the server says in the middle of a call is told in its words", () => {
  const { signaling, socket, names } = start();
  signaling.join("room", journal());
  socket.comesUp();
  socket.answer({ ok: true });
  socket.hear("error", "messages were dropped: at most 50 a second are taken");
  assert.equal(names().at(-1), "problem serverSays: messages were dropped: at most 50 a second are taken");
});

test("what keeps the own place is told to the server alone", () => {
  const { socket } = start();
  let shown = null;
  socket.shows((values) => (shown = values));
  assert.match(shown.session, /^[0-9a-f]{32}$/);
  assert.notEqual(shown.session, PAGE, "every message to the other has that");
});

test("who is refused before a room is chosen is told so, and can try again", () => {
  const { signaling, socket, names } = start();
  socket.hear("connect_error", new Error("transport error"));
  assert.deepEqual(names(), []);
  socket.hear("connect_error", new Error("a key is needed: open the invite link"));
  assert.deepEqual(names(), ["refused keyMissing"]);
  signaling.open();
  assert.equal(socket.connections, 1);
});

test("a connection that does not answer is replaced, one that does is kept", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    const { signaling, socket, told } = start();
    signaling.join("room", journal());
    socket.comesUp();
    socket.answer({ ok: true });
    signaling.check();
    socket.answer({ ok: true, iceServers: [] });
    mock.timers.tick(10_000);
    assert.equal(socket.reconnections, 0);
    assert.equal(told.filter(([event]) => event === "fresh").length, 1);
    signaling.check();
    mock.timers.tick(10_000);
    assert.equal(socket.reconnections, 1);
  } finally {
    mock.timers.reset();
  }
});

test("all of it is in the journal", () => {
  const { signaling, socket } = start();
  const log = journal();
  signaling.join("room", log);
  socket.comesUp();
  socket.hear("message", "room", { type: "offer", sdp: "v=0\r\no=-" });
  signaling.send({ type: "candidate", candidate: "candidate:1" });
  assert.deepEqual(log.events.map(({ way, name, detail }) => [way, name, detail]), [
    ["own", "connect", "one"],
    ["out", "join", "room"],
    ["in", "offer", "2 lines"],
    ["out", "candidate", "candidate:1"],
  ]);
});
