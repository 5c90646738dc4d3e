// What the page of a phone reports, by what it finds.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { STEPS, judgeCall, judgeCamera, judgeHost, judgePage, judgeRelay, judgeSrflx, judgeTrust, trustByRelay } from "../../templates/web/phone-judge.js";

const result = (url, types = [], errors = []) => ({ url, ms: types.length ? 12 : null, candidates: types.map((type) => ({ type, address: `of-${type}`, ms: 12 })), errors: errors.map((error) => ({ url, ...error })) });
const short = ({ step, grade, note }) => [step, grade, note ?? null];

test("steps are those of the service, in its order", () => {
  const source = readFileSync(new URL("../../src/phone/report.rs", import.meta.url), "utf8");
  const [, list] = /pub const ALL[^=]*=\s*\[([^\]]*)\]/.exec(source);
  assert.deepEqual(STEPS, [...list.matchAll(/Self::(\w+)/g)].map(([, name]) => name.toLowerCase()));
});

test("a page can call where it is secure and its browser knows how", () => {
  const able = { isSecure: true, hasPeer: true, hasMedia: true };
  assert.deepEqual(short(judgePage(able, 5)), ["page", "good", null]);
  assert.deepEqual(short(judgePage({ ...able, isSecure: false }, 5)), ["page", "bad", "insecure"]);
  assert.deepEqual(short(judgePage({ ...able, hasPeer: false }, 5)), ["page", "bad", "old-browser"]);
});

test("a relay by TLS tells whether a certificate is trusted, if the same port answers without TLS", () => {
  const [tls, tcp, other] = ["turns:a.test:443?transport=tcp", "turn:a.test:443?transport=tcp", "turn:a.test:3478?transport=tcp"];
  assert.equal(trustByRelay([result(tls, ["relay"])], []), "trusted");
  assert.equal(trustByRelay([result(tls)], [result(tcp, ["relay"])]), "warned");
  assert.equal(trustByRelay([result(tls)], [result(other, ["relay"])]), "unknowable", "the port may be blocked");
  assert.equal(trustByRelay([], [result(tcp, ["relay"])]), "unknowable");
  const [tls6, tcp6] = ["turns:[2001:db8::1]:443?transport=tcp", "turn:[2001:db8::1]:443?transport=tcp"];
  assert.equal(trustByRelay([result(tls6)], [result(tcp6, ["relay"])]), "warned");
  assert.deepEqual(["trusted", "warned", "unknowable"].map((trust) => judgeTrust(trust).grade), ["good", "fair", "fair"]);
});

test("a camera that cannot be used is told why", () => {
  const camera = (name, message = "") => short(judgeCamera({ name, message }));
  assert.deepEqual(short(judgeCamera(null, { picture: { width: 640, height: 480 } })), ["camera", "good", null]);
  assert.deepEqual(short(judgeCamera(null, { hasMicrophone: false })), ["camera", "good", "no-microphone"]);
  assert.deepEqual(camera("NotAllowedError"), ["camera", "bad", "denied"]);
  assert.deepEqual(camera("NotAllowedError", "denied by system"), ["camera", "bad", "denied-by-system"]);
  assert.deepEqual(camera("NotReadableError"), ["camera", "bad", "busy"]);
  assert.deepEqual(camera("NotFoundError"), ["camera", "bad", "no-device"]);
  assert.deepEqual(camera("TimeoutError"), ["camera", "bad", "no-answer"]);
});

test("addresses are told apart from silence", () => {
  const stun = "stun:a.test:3478";
  assert.deepEqual(short(judgeHost([result(stun, ["host"])])), ["host", "good", null]);
  assert.deepEqual(short(judgeHost([result(stun)])), ["host", "bad", "no-address"]);
  const hidden = { ...result(stun, ["host"]), candidates: [{ type: "host", address: "a-b.local" }] };
  assert.equal(judgeHost([hidden]).words, undefined, "a name that means nothing is not shown");
  assert.equal(judgeSrflx([result(stun, ["host", "srflx"])], true).words, "of-srflx");
  assert.deepEqual(short(judgeSrflx([result(stun, ["host"])], true)), ["srflx", "good", "same-network"]);
  assert.deepEqual(short(judgeSrflx([result(stun, ["host"])], false)), ["srflx", "bad", "silent"]);
});

test("a relay works if one of its URLs does, and the soonest is named", () => {
  const [one, other] = ["turn:a.test:3478?transport=tcp", "turn:a.test:443?transport=tcp"];
  const soon = { ...result(other, ["relay"]), ms: 3 };
  const told = judgeRelay("tcp", [result(one, ["relay"]), soon]);
  assert.deepEqual([told.grade, told.words, told.figures.ms], ["good", "a.test:443", 3]);
  assert.deepEqual(short(judgeRelay("tcp", [result(one), soon])), ["tcp", "good", null]);
  assert.deepEqual(short(judgeRelay("tls", [])), ["tls", "bad", "no-url"]);
  const failed = (url, errorCode, errorText = "") => judgeRelay("udp", [result(url, [], [{ errorCode, errorText }])]).note;
  assert.equal(failed("turn:a.test:3478", 701, "TURN host lookup received error."), "name-not-found");
  assert.equal(failed("turn:a.test:3478", 701), "silent");
  assert.equal(failed("turns:a.test:443?transport=tcp", 701), "no-tls");
  assert.equal(failed("turn:a.test:3478", 486), "full");
  assert.equal(failed("turn:a.test:3478", 401), "refused");
  assert.equal(judgeRelay("tls", [result("turns:a.test:443")]).note, "no-tls", "browsers that tell no errors");
});

test("a call is judged by what came back", () => {
  const call = { frames: 98, width: 640, height: 480, rtt: 3, loss: 0, by: "udp" };
  assert.deepEqual(judgeCall(call), { step: "call", grade: "good", words: "UDP", figures: { frames: 98, loss: 0, width: 640, height: 480, rtt_ms: 3 } });
  assert.deepEqual(short(judgeCall({ ...call, loss: 12 })), ["call", "fair", "lossy"]);
  assert.deepEqual(short(judgeCall({ ...call, frames: 3, rtt: null })), ["call", "fair", "lossy"]);
  assert.deepEqual(short(judgeCall({ problem: "no-picture" })), ["call", "bad", "no-picture"]);
});
