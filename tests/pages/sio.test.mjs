// The client that defines io(), with a WebSocket that is made here.

import "./old-node.mjs";

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import vm from "node:vm";

const source = readFileSync(new URL("../../templates/web/sio.js", import.meta.url), "utf8");

/** A page at this address; gives io() and the WebSockets that it has opened. */
function page(address = "https://call.example/room.html", fetch = undefined) {
  const sockets = [];
  class WebSocket {
    sent = [];
    isClosed = false;

    constructor(url) {
      this.url = new URL(url);
      sockets.push(this);
    }

    send(packet) {
      this.sent.push(packet);
    }

    close() {
      this.isClosed = true;
    }

    hears(...packets) {
      packets.forEach((data) => this.onmessage?.({ data }));
    }

    opens() {
      this.hears('0{"sid":"e","pingInterval":25000,"pingTimeout":20000}', '40{"sid":"s"}');
    }
  }
  const scope = vm.createContext({ URL, URLSearchParams, WebSocket, AbortController, fetch, location: new URL(address), setTimeout: (act, after) => setTimeout(act, after).unref(), clearTimeout, Error });
  scope.globalThis = scope;
  vm.runInContext(source, scope);
  return { io: scope.io, sockets };
}

test("a query comes from the address, from an object, or from text as in version 2", () => {
  const { io, sockets } = page();
  io();
  io({ query: { key: "a b&c" } });
  io({ query: "key=one&room=two" });
  io("https://other.example:8443/?token=three", { query: { key: "four" } });
  io("/?token=five");
  const asked = sockets.map(({ url }) => [url.host, url.pathname, Object.fromEntries(url.searchParams)]);
  const own = { EIO: "4", transport: "websocket" };
  assert.deepEqual(asked, [
    ["call.example", "/socket.io/", own],
    ["call.example", "/socket.io/", { key: "a b&c", ...own }],
    ["call.example", "/socket.io/", { key: "one", room: "two", ...own }],
    ["other.example:8443", "/socket.io/", { token: "three", key: "four", ...own }],
    ["call.example", "/socket.io/", { token: "five", ...own }],
  ]);
  sockets.forEach((socket) => socket.opens());
  assert.ok(sockets.every(({ sent }) => sent[0] === "40"), "all in the main namespace");
});

test("listeners come and go by each of their names", () => {
  const { io, sockets } = page();
  const socket = io();
  const heard = [];
  const note = (...values) => heard.push(values.join());
  sockets[0].opens();
  socket.addEventListener("a", note);
  socket.once("b", note);
  sockets[0].hears('42["a",1]', '42["b",2]', '42["b",3]');
  for (const remove of ["removeListener", "removeEventListener"]) {
    socket[remove]("a", note);
    sockets[0].hears('42["a",4]');
    socket.on("a", note);
  }
  socket.removeAllListeners("a");
  sockets[0].hears('42["a",5]');
  assert.deepEqual(heard, ["1", "2"]);
});

test("who is turned away by the server lets go of it, and may come again", () => {
  const { io, sockets } = page();
  const socket = io();
  const heard = [];
  socket.on("connect_error", ({ message }) => heard.push(message));
  socket.on("connect", () => heard.push("connected"));
  sockets[0].hears('0{"sid":"e","pingInterval":25000,"pingTimeout":20000}', '44{"message":"the server is full"}');
  assert.deepEqual([heard, socket.active, sockets[0].isClosed], [["the server is full"], false, true]);
  socket.connect();
  sockets[1].opens();
  assert.deepEqual([heard.at(-1), socket.active, socket.id], ["connected", true, "s"]);
});

test("what is said while there is no connection is said on the next one, in order", () => {
  const { io, sockets } = page();
  const socket = io();
  socket.emit("join", "room");
  socket.emit("message", "room", { type: "offer" }, () => {});
  assert.deepEqual(sockets[0].sent, []);
  sockets[0].opens();
  assert.deepEqual(sockets[0].sent, ["40", '42["join","room"]', '420["message","room",{"type":"offer"}]']);
});

test("who leaves by polling says so, and asks for nothing of a session that is over", async () => {
  const asked = [];
  const packets = ['0{"sid":"e","pingInterval":25000,"pingTimeout":20000}', '40{"sid":"s"}'];
  let ends;
  const isOver = new Promise((resolve) => (ends = resolve));
  const never = new Promise(() => {});
  const fetch = async (_, { method = "GET", body }) => {
    asked.push(body ?? method);
    if (body === "41") {
      ends();
    }
    const packet = method === "POST" ? "ok" : (packets.shift() ?? (await (asked.length < 9 ? isOver.then(() => "6") : never)));
    return { ok: true, text: async () => packet };
  };
  const { io } = page(undefined, fetch);
  const socket = io({ transports: ["polling"] });
  await new Promise((resolve) => socket.on("connect", resolve));
  socket.disconnect();
  await isOver;
  await new Promise(setImmediate);
  assert.deepEqual(asked.filter((one) => one !== "40"), ["GET", "GET", "GET", "41"]);
});
