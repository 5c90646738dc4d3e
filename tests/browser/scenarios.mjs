// What people do with the call page. Run as: node scenarios.mjs SCENARIO, with URL, CA and NETWORKS in the environment.

import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as after } from "node:timers/promises";

import { PATIENCE, Person } from "./person.mjs";

const { URL: url, CA: ca } = process.env;
const networks = process.env.NETWORKS.split(",");
/** Runs a command of the service that the people use. */
const rtcctl = (...words) => execFileSync("ip", [...JSON.parse(process.env.RTCCTL), ...words], { stdio: "ignore" });
const ask = (...words) => execFileSync("ip", [...JSON.parse(process.env.RTCCTL), ...words], { encoding: "utf8" });
const people = [];

async function person(number, colour, wishes = {}) {
  const one = await Person.in(networks[number], { url, ca, colour, ...wishes });
  people.push(one);
  return one;
}

function check(what, value) {
  if (!value) {
    throw new Error(`expected that ${what}`);
  }
  console.log(`ok: ${what}`);
}

/** Two people in one room who see each other. */
async function pair(room, wishes) {
  const anna = await person(0, "red");
  const bo = await person(1, "blue");
  await anna.join(room, wishes);
  await anna.becomes("waiting");
  await anna.screenshot("waiting");
  await bo.join(room, wishes);
  await Promise.all([anna.becomes("connected"), bo.becomes("connected")]);
  return [anna, bo];
}

async function seeEachOther(anna, bo, frames = 100) {
  const told = await Promise.all([anna.sees(frames), bo.sees(frames)]);
  check(`each decodes more than ${frames} frames: ${told.map((one) => one.frames)}`, true);
  await anna.seesColour("blue");
  await bo.seesColour("red");
  check("each sees the other's moving picture", true);
  return told;
}

function areRelayed(told, protocol) {
  const isRelayed = ({ local, remote, protocol: own }) => local === "relay" && remote === "relay" && own === protocol;
  check(`both ends are relayed by ${protocol}: ${JSON.stringify(told)}`, told.every(isRelayed));
}

/** What a page of the tutorial does, run in a browser: the first one in the room calls, and nobody is polite. */
async function tutorial(room) {
  await import("/rtcctl/sio.js");
  const { iceServers } = await (await fetch("/api/ice")).json();
  const stream = await navigator.mediaDevices.getUserMedia({ video: true, audio: true });
  const video = Object.assign(document.createElement("video"), { autoplay: true, muted: true });
  document.body.append(video);
  const socket = globalThis.io.connect();
  globalThis.old = { room, socket, video };
  let peer = null;
  const say = (data) => socket.emit("message", room, data);
  const create = () => {
    peer = new RTCPeerConnection({ iceServers });
    peer.onicecandidate = ({ candidate }) => {
      if (candidate) {
        const { sdpMLineIndex: label, sdpMid: id } = candidate;
        say({ type: "candidate", label, id, candidate: candidate.candidate });
      }
    };
    peer.ontrack = ({ streams }) => (video.srcObject = streams[0]);
    stream.getTracks().forEach((track) => peer.addTrack(track, stream));
  };
  socket.on("joined", create);
  socket.on("otherjoin", async () => {
    const offer = await peer.createOffer({ offerToReceiveVideo: 1, offerToReceiveAudio: 1 });
    await peer.setLocalDescription(offer);
    say(offer);
  });
  socket.on("message", async (_, data) => {
    if (data.type === "offer") {
      await peer.setRemoteDescription(new RTCSessionDescription(data));
      const answer = await peer.createAnswer();
      await peer.setLocalDescription(answer);
      say(answer);
    } else if (data.type === "answer") {
      await peer.setRemoteDescription(new RTCSessionDescription(data));
    } else if (data.type === "candidate") {
      await peer.addIceCandidate(new RTCIceCandidate({ sdpMLineIndex: data.label, sdpMid: data.id, candidate: data.candidate }));
    }
  });
  socket.emit("join", room);
}

const scenarios = {
  async host() {
    const [anna, bo] = await pair("会议 room 1");
    const told = await seeEachOther(anna, bo);
    check(`no relay is used: ${JSON.stringify(told)}`, told.every(({ local, remote }) => ![local, remote].includes("relay")));
    await anna.page.click("#panel-toggle");
    await bo.page.click("#panel-toggle");
    await bo.page.fill("#chat-text", "你好 <b>");
    await bo.page.click("#chat-send");
    await anna.page.waitForFunction(() => globalThis.rtcctl.chat.some(({ from, text }) => from === "other" && text === "你好 <b>"));
    check("a line of chat arrives as it was typed", (await anna.page.textContent("#chat-log")).includes("你好 <b>"));
    await anna.page.waitForFunction(() => document.getElementById("facts").children.length > 0);
    await anna.screenshot("in-call");
    await bo.page.click("#screen");
    await anna.page.waitForFunction(() => document.getElementById("remote").videoWidth > 640, null, { polling: 200 });
    check("a shared screen takes the camera's place", true);
  },

  async relay() {
    const [anna, bo] = await pair("relay", { relay: true });
    const told = await seeEachOther(anna, bo);
    areRelayed(told, "udp");
    await anna.screenshot("relayed");
  },

  // Nothing but their networks keeps these from a direct path.
  async tcp() {
    const [anna, bo] = await pair("tcp");
    areRelayed(await seeEachOther(anna, bo), "tcp");
  },

  async tls() {
    const [anna, bo] = await pair("tls");
    areRelayed(await seeEachOther(anna, bo), "tls");
    await anna.page.click("#panel-toggle");
    await anna.page.waitForFunction(() => document.getElementById("facts").children.length > 0);
    await anna.screenshot("relayed-by-tls");
    const servers = await anna.page.evaluate(async () => (await (await fetch("/api/ice")).json()).iceServers);
    const relay = servers.find(({ username }) => username);
    const server = { ...relay, urls: [relay.urls].flat().filter((one) => one.startsWith("turns:")) };
    check(`one who trusts the authority gets a relay from ${server.urls}`, (await anna.relaysBy(server)).join() === "tls");
    const cleo = await person(2, "green", { trusts: false });
    check("one who does not gets none", (await cleo.relaysBy(server)).length === 0);
  },

  async address() {
    const [anna, bo] = await pair("address");
    const told = await seeEachOther(anna, bo);
    areRelayed(told, told[0].protocol);
    check(`by a stream: ${told[0].protocol}`, ["tcp", "tls"].includes(told[0].protocol));
  },

  async room() {
    const [anna, bo] = await pair("three");
    await seeEachOther(anna, bo, 20);
    const cleo = await person(2, "green");
    await cleo.join("three");
    await cleo.becomes("full");
    await cleo.screenshot("full");
    check("a third is told that the room is full", (await cleo.page.textContent("#notice")).includes("two people already"));
    const before = await anna.sees(20);
    await anna.sees(before.frames + 20);
    check("the two notice nothing", (await anna.page.evaluate(() => globalThis.rtcctl.state)) === "connected");
    await bo.page.click("#leave");
    await anna.becomes("waiting");
    check("one who stays is told that the other left", (await anna.page.textContent("#notice")).includes("left"));
    await bo.page.click("#join");
    await Promise.all([anna.becomes("connected"), bo.becomes("connected")]);
    await seeEachOther(anna, bo, 50);
    await bo.context.close();
    await anna.becomes("waiting");
    check("one who stays is told when the other's browser is gone", true);
  },

  async reload() {
    const [anna, bo] = await pair("reload", { relay: true });
    await seeEachOther(anna, bo, 20);
    const words = JSON.parse(process.env.RTCCTL);
    const file = join(words[words.indexOf("--home") + 1], "config.yaml");
    const both = (script) => Promise.all([anna, bo].map((one) => one.page.evaluate(script)));
    await both(() => (globalThis.before = globalThis.rtcctl.peer) && 0);
    const edits = [
      ["a quota and the log", "turn:\n", "turn:\n  user_quota: 9\n", /\nlog:\n/, "\nlog:\n  level: debug\n"],
      ["the port of TURN", /port: 3478/, "port: 3479"],
      ["the certificate's names", /hosts: \[/, "hosts: [added.test, "],
    ];
    for (const [what, ...changes] of edits) {
      let text = readFileSync(file, "utf8");
      for (let at = 0; at < changes.length; at += 2) text = text.replace(changes[at], changes[at + 1]);
      writeFileSync(file, text);
      rtcctl("reload");
      const frames = (await Promise.all([anna.sees(0), bo.sees(0)])).map((one) => one.frames);
      const told = await Promise.all([anna, bo].map((one, index) => one.sees(frames[index] + 60)));
      areRelayed(told, "udp");
      const isSame = await both(() => globalThis.before === globalThis.rtcctl.peer && document.getElementById("notice").hidden);
      check(`nobody notices a reload of ${what}`, isSame.every(Boolean));
    }
    await bo.page.click("#leave");
    await anna.becomes("waiting");
    check("one who stays is told that the other left, by the socket from before", true);
  },

  async mend() {
    const [anna, bo] = await pair("mend", { relay: true });
    await seeEachOther(anna, bo, 20);

    const frames = async (one) => (await one.sees(0)).frames;
    const isSame = (one) => one.page.evaluate(() => globalThis.before === globalThis.rtcctl.peer);
    await Promise.all([anna, bo].map((one) => one.page.evaluate(() => (globalThis.before = globalThis.rtcctl.peer) && 0)));


    rtcctl("restart", "signaling");
    await Promise.all([anna, bo].map((one) => one.page.waitForFunction(() => document.getElementById("notice").hidden === false)));
    await Promise.all([anna, bo].map((one) => one.page.waitForFunction(() => document.getElementById("notice").hidden)));
    await Promise.all([anna, bo].map(async (one) => one.sees((await frames(one)) + 20)));
    check("a call outlives a restart of signaling", (await isSame(anna)) && (await isSame(bo)));

    rtcctl("restart", "turn");
    const before = await Promise.all([anna, bo].map(frames));
    await Promise.all([anna, bo].map((one, index) => one.sees(before[index] + 60)));
    const told = await Promise.all([anna, bo].map((one) => one.sees(0)));
    check(`a relayed call mends itself after a restart of turn: ${JSON.stringify(told)}`, told.every(({ local }) => local === "relay"));

    await bo.page.click("#leave");
    await anna.becomes("waiting");
    check("one who stays is still told that the other left", (await anna.page.textContent("#notice")).includes("left"));
  },

  // A direct call needs the service only to find each other.
  async killed() {
    const [anna, bo] = await pair("killed");
    const told = await seeEachOther(anna, bo, 20);
    check("the call is direct", told.every(({ local, remote }) => ![local, remote].includes("relay")));
    const both = (act) => Promise.all([anna, bo].map(act));
    await both((one) => one.page.evaluate(() => {
      globalThis.before = globalThis.rtcctl.peer;
      globalThis.longestGap = 0;
      const video = document.getElementById("remote");
      let last = performance.now();
      const seen = (now) => {
        globalThis.longestGap = Math.max(globalThis.longestGap, now - last);
        last = now;
        video.requestVideoFrameCallback(seen);
      };
      video.requestVideoFrameCallback(seen);
    }));
    const isHidden = (hidden) => both((one) => one.page.waitForFunction((hidden) => document.getElementById("notice").hidden === hidden, hidden));
    for (const who of ["daemon", "guardian and daemon"]) {
      const { pid, guardian } = JSON.parse(ask("status", "--json"));
      if (who !== "daemon") {
        process.kill(guardian.pid, "SIGKILL");
        // Another one knows that all is ready once it holds every socket.
        const isReplaced = ({ guardian: now }) => now && now.pid !== guardian.pid && now.state === "ready";
        while (!isReplaced(JSON.parse(ask("status", "--json")))) {
          await after(50);
        }
      }
      const killedAt = Date.now();
      process.kill(pid, "SIGKILL");
      await isHidden(false);
      await isHidden(true);
      const time = Date.now() - killedAt;
      check(`both are back in their room ${time} ms after kill -9 of ${who}`, time < 5000);
    }
    const frames = (await both((one) => one.sees(0))).map((one) => one.frames);
    await Promise.all([anna, bo].map((one, index) => one.sees(frames[index] + 20)));
    const gaps = await both((one) => one.page.evaluate(() => globalThis.longestGap));
    check(`the pictures never stood still for a second: ${gaps.map(Math.round)} ms`, gaps.every((gap) => gap < 1000));
    check("it is the same call", (await both((one) => one.page.evaluate(() => globalThis.before === globalThis.rtcctl.peer))).every(Boolean));
    await bo.page.click("#leave");
    await anna.becomes("waiting");
    check("one who stays is still told that the other left", (await anna.page.textContent("#notice")).includes("left"));
  },

  async old() {
    for (const isFirst of [true, false]) {
      const room = `old ${isFirst}`;
      const anna = await person(isFirst ? 0 : 2, "red");
      const bo = await person(1, "blue");
      await bo.page.goto(`${url}/ice-test`);
      if (isFirst) {
        await bo.page.evaluate(tutorial, room);
        await anna.join(room);
      } else {
        await anna.join(room);
        await anna.becomes("waiting");
        await bo.page.evaluate(tutorial, room);
      }
      await anna.becomes("connected");
      await anna.sees(50);
      await anna.seesColour("blue");
      await bo.page.waitForFunction(() => globalThis.old.video.getVideoPlaybackQuality().totalVideoFrames > 50);
      check(`a page of the tutorial ${isFirst ? "that was there first" : "that comes second"} is understood and understands`, true);
      await bo.page.evaluate(() => globalThis.old.socket.emit("leave", globalThis.old.room));
      await anna.becomes("waiting");
      check("its goodbye is heard", true);
      await Promise.all([anna, bo].map((one) => one.close()));
    }
  },

  async pages() {
    const anna = await person(0, "red", { locale: "zh-CN" });
    await anna.page.goto(url);
    await anna.becomes("lobby");
    check("a Chinese browser gets Chinese", (await anna.page.textContent("h1")) === "开始通话");
    await anna.page.waitForFunction(() => document.getElementById("preview").videoWidth > 0);
    await anna.screenshot("lobby-zh");
    await anna.page.click("#language");
    await anna.page.click("#theme");
    check("the language can be changed", (await anna.page.textContent("h1")) === "Start a call");
    await anna.screenshot("lobby-dark");
    await anna.page.setViewportSize({ width: 390, height: 844 });
    await anna.screenshot("lobby-phone");
    await anna.page.setViewportSize({ width: 1280, height: 800 });
    await anna.page.goto(`${url}/ice-test`);
    await anna.page.waitForFunction(() => document.getElementById("user").value !== "");
    await anna.page.click("#gather");
    await anna.page.waitForFunction(() => (document.documentElement.dataset.verdict ?? "").startsWith("iceTurn"));
    check("the ICE test finds a relay candidate", (await anna.page.textContent("#candidates")).includes("relay"));
    await anna.screenshot("ice-test");
    await anna.page.click("#loop");
    await anna.page.waitForFunction(() => document.documentElement.dataset.verdict === "loopWorks");
    check(`data goes round: ${await anna.page.textContent("#verdict")}`, true);
  },
};

async function run(name) {
  await scenarios[name]();
  for (const one of people) {
    check(`nothing is complained about: ${one.complaints}`, one.complaints.length === 0);
  }
}

const name = process.argv[2];
const deadline = after(4 * PATIENCE, null, { ref: false }).then(() => Promise.reject(new Error("the scenario takes too long")));
try {
  await Promise.race([run(name), deadline]);
  console.log(`passed: ${name}`);
} catch (error) {
  console.error(`failed: ${name}: ${error.stack}`);
  for (const [number, one] of people.entries()) {
    const state = await one.page?.evaluate(() => `${document.documentElement.dataset.state}: ${document.getElementById("notice")?.textContent}`).catch(() => "gone");
    console.error(`person ${number}: ${state}; complaints: ${one.complaints.join(" | ")}`);
    await one.screenshot(`failed-${name}-${number}`).catch(() => {});
  }
  process.exitCode = 1;
} finally {
  await Promise.allSettled(people.map((one) => one.close()));
}
