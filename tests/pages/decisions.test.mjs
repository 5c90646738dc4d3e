// What the pages decide, without a browser.

import "./old-node.mjs";

import assert from "node:assert/strict";
import test from "node:test";

import { addressKind, parseCandidate, priorityParts, relayProtocol } from "../../templates/web/candidates.js";
import { Journal } from "../../templates/web/journal.js";
import { loudness } from "../../templates/web/meter.js";
import { niceTop, points } from "../../templates/web/plot.js";
import { iceProblem, joinProblem, mediaProblem, withCall } from "../../templates/web/problems.js";
import { report } from "../../templates/web/report.js";
import { route } from "../../templates/web/route.js";
import { count, difference, meaning, sections } from "../../templates/web/sdp.js";
import { configuration, transportOf } from "../../templates/web/servers.js";
import { History, figures, grade, selectedPair, totals } from "../../templates/web/stats.js";
import { en } from "../../templates/web/strings.en.js";
import { judge, median, overall, overallLoop, probes } from "../../templates/web/verdicts.js";
import { Watch } from "../../templates/web/watch.js";

test("each failure of a device has words of its own", () => {
  const problem = (name, message = "") => mediaProblem({ name, message });
  assert.equal(problem("NotAllowedError"), "denied");
  assert.equal(problem("NotAllowedError", "Permission denied by system"), "deniedBySystem");
  assert.equal(problem("NotReadableError"), "busy");
  assert.equal(problem("NotFoundError"), "missing");
  assert.equal(problem("OverconstrainedError"), "gone");
  assert.equal(mediaProblem(null, false), "insecure");
});

test("an unreachable server is explained by how it was asked", () => {
  const problem = (errorCode, url = "", errorText = "") => iceProblem({ errorCode, url, errorText });
  assert.equal(problem(701, "turn:a:3478?transport=udp"), "ice701udp");
  assert.equal(problem(701, "turn:a:3478?transport=tcp"), "ice701tcp");
  assert.equal(problem(701, "turns:a:443?transport=tcp"), "ice701tls");
  assert.equal(problem(701, "stun:nowhere", "STUN host lookup received error."), "ice701name");
  assert.equal(problem(401), "ice401");
  assert.equal(problem(486), "ice486");
  for (let code = 300; code < 800; code += 1) {
    assert.ok(problem(code) in en, String(code));
  }
});

test("that a call goes on without the server is said only where it does", () => {
  for (const problem of ["signalingLost", "serverRestarting"]) {
    assert.deepEqual([withCall(problem, false), withCall(problem, true)], [problem, "bothLost"]);
  }
  assert.deepEqual([withCall(null, true), withCall("serverFull", true)], [null, "serverFull"]);
});

test("a join that is refused says why", () => {
  assert.equal(joinProblem({ ok: true }), null);
  assert.equal(joinProblem(undefined), null);
  assert.equal(joinProblem({ ok: false, error: "full" }), "full");
  assert.equal(joinProblem({ ok: false, error: "too many rooms" }), "tooMany");
  assert.equal(joinProblem({ ok: false, error: "the room is empty" }), "roomRefused");
  assert.equal(joinProblem({ ok: false, error: "the room's name has more than 256 bytes" }), "roomTooLong");
});

test("a candidate line is read into its parts", () => {
  const read = parseCandidate("candidate:842163049 1 udp 1677729535 203.0.113.7 46154 typ srflx raddr 10.0.0.4 rport 5000 generation 0 ufrag x network-cost 999");
  assert.deepEqual(read, {
    foundation: "842163049",
    component: 1,
    protocol: "udp",
    priority: 1677729535,
    address: "203.0.113.7",
    port: 46154,
    type: "srflx",
    relatedAddress: "10.0.0.4",
    relatedPort: 5000,
    tcpType: null,
  });
  assert.deepEqual(priorityParts(1677729535), [99, 65535, 1].map((part, at) => (at === 0 ? 1677729535 >>> 24 : at === 1 ? (1677729535 >>> 8) & 0xffff : part)));
  for (const line of ["", null, "candidate:1 1 udp", "a=rtpmap:0 PCMU/8000"]) {
    assert.equal(parseCandidate(line), null);
  }
  assert.equal(parseCandidate("a=candidate:1 1 TCP 1 fe80::1 9 typ host tcptype active").tcpType, "active");
});

test("the protocol to a relay is known from the candidate's own words or its priority", () => {
  assert.equal(relayProtocol({ type: "relay", priority: 2 << 24 }), "udp");
  assert.equal(relayProtocol({ type: "relay", priority: 1 << 24 }), "tcp");
  assert.equal(relayProtocol({ type: "relay", priority: 9 }), "tls");
  assert.equal(relayProtocol({ type: "relay", priority: 9, relayProtocol: "udp" }), "udp");
  assert.equal(relayProtocol({ type: "host", priority: 126 << 24 }), null);
});

test("addresses are told apart", () => {
  assert.equal(addressKind("a1b2.local"), "mdns");
  assert.equal(addressKind("192.168.1.1"), "private");
  assert.equal(addressKind("100.64.0.1"), "private");
  assert.equal(addressKind("8.8.8.8"), "public");
  assert.equal(addressKind(""), "hidden");
});

const SDP = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=sendrecv\r\na=rtpmap:111 opus/48000/2\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:1\r\na=recvonly\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=candidate:1 1 udp 1 10.0.0.1 1 typ host\r\n";

test("what changed between two descriptions is told line by line", () => {
  const after = SDP.replace("recvonly", "sendrecv").replace("a=rtpmap:97 rtx/90000\r\n", "");
  const changes = difference(SDP, after);
  assert.deepEqual(changes.filter(({ kind }) => kind !== "same"), [
    { kind: "removed", line: "a=recvonly" },
    { kind: "added", line: "a=sendrecv" },
    { kind: "removed", line: "a=rtpmap:97 rtx/90000" },
  ]);
  assert.deepEqual(count(changes), { added: 1, removed: 2 });
  const rebuild = (kept) => changes.filter(({ kind }) => kind === "same" || kind === kept).map(({ line }) => line).join("\r\n") + "\r\n";
  assert.equal(rebuild("removed"), SDP);
  assert.equal(rebuild("added"), after);
  assert.deepEqual(count(difference(SDP, SDP)), { added: 0, removed: 0 });
});

test("the sections of a description are summed up", () => {
  assert.deepEqual(sections(SDP), [
    { kind: "audio", mid: "0", direction: "sendrecv", codecs: ["opus"], candidates: 0 },
    { kind: "video", mid: "1", direction: "recvonly", codecs: ["VP8", "rtx"], candidates: 1 },
  ]);
  assert.equal(meaning("a=ice-ufrag:abcd"), "sdpIce");
  assert.equal(meaning("v=0"), null);
});

const SERVERS = [
  { urls: ["stun:a:3478"] },
  { urls: ["turn:a:3478?transport=udp", "turn:a:3478?transport=tcp", "turns:a:443?transport=tcp"], username: "u", credential: "c" },
];

test("a forced way keeps the servers that go it, and no direct path", () => {
  assert.deepEqual(configuration(SERVERS, "any"), { iceServers: SERVERS, iceTransportPolicy: "all" });
  assert.equal(configuration(SERVERS, "relay").iceTransportPolicy, "relay");
  const urls = (way) => configuration(SERVERS, way).iceServers.flatMap(({ urls }) => urls);
  assert.deepEqual(urls("udp"), ["turn:a:3478?transport=udp"]);
  assert.deepEqual(urls("tcp"), ["turn:a:3478?transport=tcp"]);
  assert.deepEqual(urls("tls"), ["turns:a:443?transport=tcp"]);
  assert.deepEqual(configuration([], "tls"), { iceServers: [], iceTransportPolicy: "relay" });
  assert.equal(transportOf("http://a"), null);
});

test("silence after lively media asks for a new way once, and again after a while", () => {
  const watch = new Watch();
  let [packets, now] = [0, 0];
  const step = (fresh) => watch.handleSample((packets += fresh), (now += 400));
  for (let at = 0; at < 10; at += 1) {
    assert.equal(step(30), false);
  }
  const asked = Array.from({ length: 30 }, () => step(0)).map((isAsked, at) => (isAsked ? (at + 1) * 400 : null)).filter(Boolean);
  assert.equal(asked[0], 1200);
  assert.ok(asked[1] - asked[0] >= 3500 && asked.length === 3, String(asked));
  assert.ok(watch.isSilent(now));
  step(1);
  assert.equal(watch.isSilent(now), false);
});

test("silence while a new way that was agreed on has its time asks for no other", () => {
  const watch = new Watch();
  let [packets, now] = [0, 0];
  const step = (fresh) => watch.handleSample((packets += fresh), (now += 400));
  for (let at = 0; at < 10; at += 1) {
    step(30);
  }
  step(0);
  watch.handleTry(now);
  const asked = Array.from({ length: 20 }, (_, at) => (step(0) ? at : null)).filter((at) => at !== null);
  assert.deepEqual(asked, [8], "3.6 seconds later");
});

test("silence that was announced asks for nothing, and silence after it does again", () => {
  const watch = new Watch();
  let [packets, now] = [0, 0];
  const step = (fresh) => watch.handleSample((packets += fresh), (now += 400));
  Array.from({ length: 10 }, () => step(30));
  // The word of it may come before the last packets.
  const quiet = (fresh) => {
    watch.handleQuiet();
    return step(fresh);
  };
  assert.deepEqual([quiet(30), ...Array.from({ length: 30 }, () => quiet(0))].filter(Boolean), []);
  assert.equal(watch.isSilent(now), false);
  Array.from({ length: 10 }, () => step(30));
  assert.ok(Array.from({ length: 5 }, () => step(0)).some(Boolean));
});

test("where hardly anything comes, silence means nothing", () => {
  const watch = new Watch();
  let [packets, now] = [0, 0];
  for (let at = 0; at < 100; at += 1) {
    assert.equal(watch.handleSample((packets += at % 5 === 0 ? 1 : 0), (now += 400)), false);
  }
});

const reports = (...all) => new Map(all.map((one) => [one.id, one]));
const stats = (bytes, packets, lost) =>
  reports(
    { id: "in", type: "inbound-rtp", kind: "video", bytesReceived: bytes, packetsReceived: packets, packetsLost: lost, jitter: 0.012, frameWidth: 640, frameHeight: 480, framesPerSecond: 25, codecId: "codec" },
    { id: "out", type: "outbound-rtp", kind: "video", bytesSent: 2 * bytes, packetsSent: packets, qualityLimitationReason: "cpu" },
    { id: "far", type: "remote-inbound-rtp", kind: "video", packetsLost: lost * 2, jitter: 0.03 },
    { id: "codec", type: "codec", mimeType: "video/VP9" },
    { id: "t", type: "transport", selectedCandidatePairId: "p" },
    { id: "p", type: "candidate-pair", localCandidateId: "l", remoteCandidateId: "r", currentRoundTripTime: 0.05, availableOutgoingBitrate: 1e6 },
    { id: "l", type: "local-candidate", candidateType: "relay", address: "198.51.100.1", port: 50000, protocol: "udp", relayProtocol: "tls", priority: 1 },
    { id: "r", type: "remote-candidate", candidateType: "srflx", address: "203.0.113.9", port: 4000, protocol: "udp", relatedAddress: "10.0.0.9", relatedPort: 4000 },
  );

test("figures are what happened between two reports", () => {
  const told = figures(totals(stats(100_000, 1000, 0), 1000), totals(stats(200_000, 1090, 10), 2000));
  assert.deepEqual(told.down, { rate: 800, loss: 10, jitter: 12, fps: 25, width: 640, height: 480, codec: "VP9" });
  assert.equal(told.up.rate, 1600);
  assert.ok(Math.abs(told.up.loss - (100 * 20) / 90) < 1e-9);
  assert.equal(told.roundTrip, 50);
  assert.equal(told.available, 1000);
  assert.equal(told.limitedBy, "cpu");
  assert.equal(grade(told), 1);
});

test("a connection that was made anew does not count backwards", () => {
  const told = figures(totals(stats(200_000, 1000, 50), 1000), totals(stats(1000, 10, 0), 2000));
  assert.equal(told.down.rate, 0);
  assert.equal(told.down.loss, 0);
});

test("the history is bounded", () => {
  const history = new History(3);
  for (let second = 0; second < 10; second += 1) {
    history.read(stats(second * 1000, second * 10, 0), second * 1000);
  }
  assert.equal(history.all.length, 3);
});

test("the route is drawn from one person to the other", () => {
  const { stations, legs, kind } = route(selectedPair(stats(0, 0, 0)));
  assert.deepEqual(stations.map((station) => [station.kind, station.address]), [
    ["you", null],
    ["relay", "198.51.100.1:50000"],
    ["nat", "203.0.113.9:4000"],
    ["other", "10.0.0.9:4000"],
  ]);
  assert.deepEqual(legs.map(({ protocol }) => protocol), ["tls", "udp", "udp"]);
  assert.equal(kind, "relay");
  const host = { candidateType: "host", address: "10.0.0.1", port: 1, protocol: "udp" };
  assert.equal(route({ pair: {}, local: host, remote: host }).kind, "host");
  assert.equal(route(undefined), null);
});

test("plots have round tops and lines from the right", () => {
  assert.deepEqual([0, 3, 11, 480, 500, 501].map(niceTop), [1, 5, 20, 500, 500, 1000]);
  assert.equal(points([0, 10], 3, 10, 100, 24), "50.0,22.0 100.0,2.0");
});

test("each URL of the ICE test gets a verdict", () => {
  const result = (url, types, more = {}) => ({ url, candidates: types.map((type) => ({ type })), errors: [], ...more });
  const key = (url, types, errors = [], more = {}) => judge(result(url, types, { errors, ...more })).key;
  assert.equal(key("stun:a", ["host", "srflx"]), "stunWorks");
  assert.equal(key("stun:a", ["host"]), "stunSame");
  assert.equal(key("stun:a", ["host"], [{ errorCode: 701 }]), "stunFails");
  assert.equal(key("turn:a", ["relay"]), "turnUdpWorks");
  assert.equal(key("turns:a", []), "turnTlsFails");
  assert.equal(key("https://a", []), "urlMalformed");
  const refused = { isRefused: true };
  assert.equal(key("stun:a:99999", [], [], refused), "urlMalformed");
  assert.equal(key("turn:::1", [], [], refused), "urlMalformed");
  assert.equal(key("turn:a", [], [], { ...refused, lacksPassword: true }), "urlNoPassword");
  const together = (...results) => overall(results).key;
  const [stun, host] = [result("stun:a", ["host", "srflx"]), result("stun:a", ["host"])];
  assert.equal(together(result("turn:a", ["relay"]), stun), "iceTurnWorks");
  assert.equal(together(result("turn:a", ["relay"]), host), "iceTurnNoStun");
  assert.equal(together(result("turn:a", []), result("turns:a", ["relay"])), "iceTurnNoUdp");
  assert.equal(together(result("turn:a", []), stun), "iceStunOnly");
  assert.equal(together(result("turn:a", []), host), "iceHostOnly");
  assert.equal(together(result("stun:a", [])), "iceNothing");
  assert.equal(together(result("turn:a", [])), "iceNoRelay");
  assert.equal(together(), "iceNoUrl");
  assert.equal(together(result("https://a", [], refused)), "iceNoUrl");
  // A relay that says no is no closed port.
  const denied = result("turn:a", [], { errors: [{ errorCode: 401 }] });
  assert.equal(together(denied, host), "iceDenied");
  assert.equal(together(denied, result("turns:a", ["relay"]), host), "iceTurnNoUdp");
  assert.equal(together(result("turn:a", [], { ...refused, lacksPassword: true }), host), "iceNoPassword");
});

test("calls through the relay are judged together by what kept them from working", () => {
  assert.equal(overallLoop(["loopFails", undefined, "loopNoUrl"]), "loopWorks");
  assert.equal(overallLoop(["loopFails", "loopBadUrl", "loopNoUrl"]), "loopFails");
  assert.equal(overallLoop(["loopBadUrl", "loopNoUrl", "loopNoUrl"]), "loopBadUrl");
  assert.equal(overallLoop(["loopNoUrl", "loopNoUrl", "loopNoUrl"]), "iceNoUrl");
});

test("probes tell loss and the middle of the round trips", () => {
  assert.deepEqual(probes(4, [30, 10, 20]), { roundTrip: 20, loss: 25 });
  assert.equal(median([]), null);
});

test("the journal is bounded and dated from its start", () => {
  let now = 500;
  const journal = new Journal(() => (now += 1));
  for (let at = 0; at < 1000; at += 1) {
    journal.event("in", "message", "x".repeat(9000));
  }
  assert.equal(journal.events.length, 400);
  assert.equal(journal.events.at(-1).at, 1000);
  assert.equal(journal.events[0].detail.length, 4000);
  journal.description("own", "offer", "v=0");
  journal.description("other", "answer", "v=1");
  journal.description("own", "offer", "v=2");
  assert.deepEqual(journal.lastTwo("own").map(({ sdp }) => sdp), ["v=2", "v=0"]);
});

test("a report holds no password", () => {
  const call = { room: "r", state: "connected", peer: { getConfiguration: () => ({ iceServers: SERVERS.map((one) => ({ ...one, credential: "very secret" })), iceTransportPolicy: "all" }) } };
  const words = JSON.stringify(report({ call, journal: new Journal(() => 0), history: new History(), stats: [], agent: "x", at: "now" }));
  assert.doesNotMatch(words, /very secret/);
  assert.match(words, /turns:a:443/);
});

test("silence is nothing and full scale is everything", () => {
  assert.equal(loudness(new Uint8Array(64).fill(128)), 0);
  assert.ok(loudness(Uint8Array.from({ length: 64 }, (_, at) => (at % 2 ? 255 : 0))) > 0.99);
});
