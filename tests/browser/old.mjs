// Calls between our page and pages of the tutorial.

import { copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";

import { check, person, url } from "./cast.mjs";

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

export const old = {
  // The page's own copy of the client, as npm has it, in the place where a stock server has its script.
  async builds() {
    const { SITE: site, BUILDS: builds } = process.env;
    mkdirSync(join(site, "socket.io"));
    const both = [await person(0, "red"), await person(1, "blue")];
    for (const version of ["2", "3", "4"]) {
      copyFileSync(join(builds, `socket.io-client-${version}`, "dist", "socket.io.js"), join(site, "socket.io", "socket.io.js"));
      for (const one of both) {
        await one.page.goto(`${url}/?room=${version}`);
        await one.page.click("#connect");
        await one.page.waitForFunction(() => document.getElementById("connect").disabled);
      }
      const [, known] = /Socket\.IO v(\d)/.exec(await both[0].page.evaluate(async () => (await fetch("/socket.io/socket.io.js")).text()));
      check(`the page has the client of version ${known}`, known === version);
      for (const one of both) {
        await one.page.waitForFunction(() => document.getElementById("remotevideo").getVideoPlaybackQuality().totalVideoFrames > 15);
      }
      check(`two pages with socket.io-client ${version} see each other`, true);
    }
    both.forEach((one) => one.forgives(/favicon|status of 404/));
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
};
