// Files over a channel that is made here: whole, resumed, refused, damaged.

import "./old-node.mjs";

import assert from "node:assert/strict";
import test from "node:test";

import { PIECE, Transfers, safeName } from "../../templates/web/transfer.js";

/** One end of a reliable channel in order; what is sent arrives a turn later. */
class Channel extends EventTarget {
  readyState = "open";
  bufferedAmount = 0;
  sent = 0;
  other = null;
  /** May change what is delivered; null loses it. */
  spoil = (data) => data;

  send(data) {
    assert.equal(this.readyState, "open");
    this.sent += typeof data === "string" ? 0 : data.byteLength;
    const arriving = this.spoil(typeof data === "string" ? data : data.slice(0));
    setImmediate(() => arriving !== null && this.other.readyState === "open" && this.other.onmessage?.({ data: arriving }));
  }

  close() {
    for (const end of [this, this.other]) {
      if (end.readyState === "open") {
        end.readyState = "closed";
        end.dispatchEvent(new Event("close"));
        end.onclose?.();
      }
    }
  }
}

function cable() {
  const [one, other] = [new Channel(), new Channel()];
  [one.other, other.other] = [other, one];
  return [one, other];
}

/** A sink that keeps what it is given. */
function sink() {
  const parts = [];
  return { parts, write: async (bytes) => void parts.push(bytes.slice()), finish: async () => Buffer.concat(parts), abort() {} };
}

const bytes = (length) => Buffer.from(Uint8Array.from({ length }, (_, at) => (at * 31 + (at >> 8)) & 255));
const file = (data, name = "a.bin") => Object.assign(new Blob([data]), { name });

function pair(openSink = async () => sink()) {
  let now = 0;
  const [from, to] = [0, 1].map(() => new Transfers(openSink, () => (now += 1)));
  const [one, other] = cable();
  from.use(one);
  to.use(other);
  return { from, to, one, other };
}

/** Resolves when an item of this side is in a state. */
function becomes(side, state) {
  return new Promise((done) => {
    const look = () => {
      const item = side.items.find((item) => item.state === state);
      if (item) {
        side.removeEventListener("change", look);
        done(item);
      }
    };
    side.addEventListener("change", look);
    look();
  });
}

const acceptAll = (side) => side.addEventListener("change", ({ detail }) => detail.state === "offered" && side.accept(detail.id));

test("a file arrives whole and both sides know its hash", async () => {
  for (const length of [0, 1, 65_536, PIECE, PIECE + 1, 3 * PIECE + 12_345]) {
    const { from, to } = pair();
    acceptAll(to);
    const data = bytes(length);
    const own = from.send(file(data));
    const item = await becomes(to, "done");
    await becomes(from, "done");
    assert.ok(item.result.equals(data), `${length} bytes`);
    assert.equal(item.hash, own.hash);
    assert.equal(item.done, length);
  }
});

test("nothing is sent before the other takes it, and nothing after it declines", async () => {
  const { from, to, one } = pair();
  from.send(file(bytes(1000)));
  const item = await becomes(to, "offered");
  assert.equal(one.sent, 0);
  to.cancel(item.id);
  await becomes(from, "cancelled");
  assert.equal(one.sent, 0);
});

test("after an interruption a file goes on where it stopped", async () => {
  const { from, to, one, other } = pair();
  acceptAll(to);
  const data = bytes(12 * PIECE + 77);
  from.send(file(data));
  await new Promise((done) => to.addEventListener("change", ({ detail }) => detail.done >= 4 * PIECE && done()));
  one.close();
  assert.deepEqual([from.items[0].state, to.items[0].state], ["paused", "paused"]);
  const before = one.sent;
  const [again, otherAgain] = cable();
  to.use(otherAgain);
  from.use(again);
  const item = await becomes(to, "done");
  assert.ok(item.result.equals(data));
  assert.ok(again.sent <= data.length - 4 * PIECE, `${before} bytes were sent before, ${again.sent} after`);
  assert.equal(other.readyState, "closed");
});

test("several files in both directions all arrive", async () => {
  const { from, to } = pair();
  [from, to].forEach(acceptAll);
  const all = [1, 2, 3].map((part) => bytes(part * 700_000));
  for (const data of all) {
    from.send(file(data));
    to.send(file(data));
  }
  await Promise.all([from, to].map((side) => new Promise((done) => side.addEventListener("change", () => side.items.filter(({ state }) => state === "done").length === 6 && done()))));
  for (const side of [from, to]) {
    const got = side.items.filter(({ way }) => way === "in").map(({ result }) => result);
    assert.ok(got.every((data, at) => data.equals(all[at])));
  }
});

test("a sender waits for a receiver whose disk is slow", async () => {
  const waiting = [];
  const slow = async () => ({ ...sink(), write: () => new Promise((done) => waiting.push(done)) });
  const { from, to, one } = pair(slow);
  acceptAll(to);
  from.send(file(bytes(30 * PIECE)));
  await becomes(from, "moving");
  let before = -1;
  // Until nothing moves any more.
  for (let quiet = 0; quiet < 20; quiet = one.sent === before ? quiet + 1 : 0) {
    before = one.sent;
    await new Promise((done) => setImmediate(done));
    await crypto.subtle.digest("SHA-256", new Uint8Array(PIECE));
  }
  assert.ok(one.sent <= 8 * PIECE, `${one.sent / PIECE} pieces are under way`);
  from.cancel(from.items[0].id);
  waiting.forEach((done) => done());
});

test("a damaged file is not taken for a whole one", async () => {
  const { from, to, one } = pair();
  acceptAll(to);
  let isSpoiled = false;
  one.spoil = (data) => {
    if (typeof data !== "string" && !isSpoiled) {
      isSpoiled = true;
      new Uint8Array(data)[7] ^= 1;
    }
    return data;
  };
  from.send(file(bytes(2 * PIECE)));
  assert.equal((await becomes(to, "failed")).problem, "fileBroken");
  assert.equal((await becomes(from, "failed")).problem, "fileBroken");
});

test("a full disk ends the file on both sides with a reason", async () => {
  const { from, to } = pair(async () => ({ ...sink(), write: () => Promise.reject(new Error("quota")) }));
  acceptAll(to);
  from.send(file(bytes(100)));
  assert.equal((await becomes(to, "failed")).problem, "fileNoSpace");
  await becomes(from, "cancelled");
});

/** Both sides on a new channel, with another one in the place of the receiver where one is given. */
function again(from, to) {
  const [one, other] = cable();
  to.use(other);
  from.use(one);
  return [one, other];
}

/** Everything that is on its way has arrived, and what follows from it. */
const settled = async () => {
  for (let turn = 0; turn < 20; turn += 1) {
    await new Promise((done) => setImmediate(done));
  }
};

test("an end that was lost with the channel is told on the next one", async () => {
  const { from, to, other } = pair();
  acceptAll(to);
  // The receiver has all of it and says so in vain.
  other.spoil = (data) => (/"type":"done"/.test(data) ? null : data);
  from.send(file(bytes(1000)));
  await becomes(to, "done");
  other.close();
  assert.equal(from.items[0].state, "paused");
  again(from, to);
  await becomes(from, "done");
});

test("who cancels while there is no channel ends it for both", async () => {
  for (const canceller of ["from", "to"]) {
    const sides = pair();
    acceptAll(sides.to);
    sides.from.send(file(bytes(10 * PIECE)));
    await new Promise((done) => sides.to.addEventListener("change", ({ detail }) => detail.done >= PIECE && done()));
    sides.one.close();
    sides[canceller].cancel(sides.from.items[0].id);
    again(sides.from, sides.to);
    await settled();
    assert.deepEqual([sides.from.items[0].state, sides.to.items[0].state], ["cancelled", "cancelled"], canceller);
  }
});

test("a file for one who has left is offered to nobody else, and nothing waits for it", async () => {
  const { from, to, one } = pair();
  acceptAll(to);
  from.send(file(bytes(10 * PIECE)));
  to.send(file(bytes(1000)));
  await new Promise((done) => to.addEventListener("change", ({ detail }) => detail.done >= PIECE && done()));
  one.close();
  const stranger = new Transfers(async () => sink(), () => 0);
  again(from, stranger);
  await settled();
  assert.deepEqual(stranger.items, []);
  assert.deepEqual(from.items.map(({ way, state, problem }) => [way, state, problem]), [["out", "failed", "fileGone"], ["in", "failed", "fileGone"]]);
  // The page that was reloaded knows nothing of what it was receiving.
  const other = new Transfers(async () => sink(), () => 0);
  again(other, to);
  await settled();
  assert.ok(to.items.every(({ state, problem }) => state === "failed" && problem === "fileGone"));
  from.send(file(bytes(10)));
  await becomes(stranger, "offered");
});

test("a sender cannot write more than it was asked for", async () => {
  const kept = sink();
  const { to, other } = pair(async () => kept);
  const tell = (data) => other.onmessage({ data: data instanceof ArrayBuffer ? data : JSON.stringify(data) });
  tell({ type: "offer", id: "x", name: "x", size: 100 });
  await to.accept("x");
  for (const from of [-1, 1e9, "0", null, 0, ...Array(50).fill(0)]) {
    tell({ type: "begin", id: "x", from });
    tell(new ArrayBuffer(100));
    await settled();
  }
  const size = kept.parts.reduce((sum, part) => sum + part.length, 0);
  assert.equal(size, 100);
  assert.equal(to.items[0].problem, "fileBroken");
});

test("nonsense on the channel hurts nobody", async () => {
  const { from, to, other } = pair();
  for (const data of ["{", "null", "[]", '{"type":"want","id":"x","from":0}', '{"type":"offer","id":1,"size":-1}', '{"type":"end"}', new ArrayBuffer(8)]) {
    other.onmessage({ data });
  }
  assert.deepEqual(to.items, []);
  from.send(file(bytes(10)));
  await becomes(to, "offered");
});

test("the name of a file cannot lead anywhere", () => {
  assert.equal(safeName("../../etc/passwd"), "passwd");
  assert.equal(safeName("C:\\Windows\\x.exe"), "x.exe");
  assert.equal(safeName(".bashrc"), "bashrc");
  assert.equal(safeName("会议 记录?.txt"), "会议 记录_.txt");
  assert.equal(safeName("invoice\u202efdp.exe"), "invoicefdp.exe", "what looks like a PDF is none");
  assert.equal(safeName("\u200b.\u2066bashrc\u0085"), "bashrc");
  assert.equal(safeName(""), "file");
});
