// A person with a browser in a network of their own (or in the one of the test, if it has no name), who trusts the server's certificate authority.

import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

import { COLOURS, writeCamera } from "./camera.mjs";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--use-fake-device-for-media-stream",
  "--use-fake-ui-for-media-stream",
];
const TYPES = { html: "text/html; charset=utf-8", js: "text/javascript; charset=utf-8", css: "text/css; charset=utf-8", svg: "image/svg+xml" };
/** What the service says of its own pages; see src/web/page.rs. */
const POLICY = "default-src 'self'; base-uri 'none'; connect-src 'self' wss:; form-action 'none'; frame-ancestors 'none'; img-src 'self' data: blob:; media-src 'self' blob:; object-src 'none'";

/** Milliseconds for anything that a person waits for. */
export const PATIENCE = 45000;

/** Takes the pages from a folder instead of from the service: who works on them need not build it each time. */
async function servePages(context, folder) {
  await context.route(/^https:\/\/[^/]+\/(rtcctl\/[^?]*|ice-test|phone)?(\?.*)?$/, (route) => {
    const { pathname } = new URL(route.request().url());
    const name = { "/": "index.html", "/ice-test": "ice-test.html", "/phone": "phone.html" }[pathname] ?? pathname.replace("/rtcctl/", "");
    const path = join(folder, name);
    return existsSync(path) ? route.fulfill({ path, headers: { "content-security-policy": POLICY, "content-type": TYPES[name.split(".").at(-1)] } }) : route.continue();
  });
}

export class Person {
  /** What went wrong on the page, and requests to anywhere else. */
  complaints = [];

  static async in(network, { colour, ca, url, trusts = true, locale = "en-US", viewport = { width: 1280, height: 800 }, scheme = "light" }) {
    const person = new Person();
    person.url = url;
    person.home = mkdtempSync(join(tmpdir(), "rtcctl-browser-"));
    const database = join(person.home, ".pki", "nssdb");
    mkdirSync(database, { recursive: true });
    execFileSync("certutil", ["-d", `sql:${database}`, "-N", "--empty-password"]);
    if (trusts) {
      execFileSync("certutil", ["-d", `sql:${database}`, "-A", "-t", "C,,", "-n", "rtcctl", "-i", ca]);
    }
    const camera = join(person.home, "camera.y4m");
    writeCamera(camera, colour);
    const start = join(person.home, "chromium");
    writeFileSync(start, `#!/bin/sh\nexec ${network ? `ip netns exec ${network} ` : ""}chromium "$@"\n`);
    chmodSync(start, 0o755);
    person.context = await chromium.launchPersistentContext(join(person.home, "profile"), {
      executablePath: start,
      headless: true,
      // Pages that came from nowhere may not speak to a local network.
      args: [...FLAGS, ...(process.env.RTCCTL_PAGES ? ["--disable-features=LocalNetworkAccessChecks"] : []), `--use-file-for-fake-video-capture=${camera}`],
      env: { ...process.env, HOME: person.home },
      locale,
      viewport,
      colorScheme: scheme,
      timeout: PATIENCE,
    });
    if (process.env.RTCCTL_PAGES) {
      await servePages(person.context, process.env.RTCCTL_PAGES);
    }
    person.page = await person.context.newPage();
    person.page.setDefaultTimeout(PATIENCE);
    const { origin } = new URL(url);
    person.page.on("console", (message) => ["error", "warning"].includes(message.type()) && person.complaints.push(`${message.text()} (${message.location().url})`));
    person.page.on("pageerror", (error) => person.complaints.push(String(error)));
    person.page.on("request", (request) => {
      const target = request.url();
      if (!target.startsWith(origin) && !/^(data|blob|chrome-extension):/.test(target)) {
        person.complaints.push(`request to ${target}`);
      }
    });
    return person;
  }

  async join(room, { relay = false } = {}) {
    const query = new URLSearchParams({ room, join: "1", ...(relay ? { relay: "1" } : {}) });
    await this.page.goto(`${this.url}/?${query}`);
  }

  /** Waits until the page is in a state. */
  async becomes(state) {
    try {
      // By time, not by frame: a page that is not shown draws none.
      await this.page.waitForFunction((state) => document.documentElement.dataset.state === state, state, { polling: 50 });
    } catch (error) {
      throw new Error(`not ${state}, but ${JSON.stringify(await this.tells())}; complaints: ${this.complaints}`, { cause: error });
    }
  }

  /** What the page knows of its state, for who looks for the reason of a failure. */
  async tells() {
    return this.page.evaluate(() => ({
      page: location.search,
      state: document.documentElement.dataset.state,
      notice: document.getElementById("notice")?.textContent,
      ice: globalThis.rtcctl?.peer?.iceConnectionState,
      age: Math.round(performance.now()),
      last: globalThis.rtcctl?.journal?.events.slice(-25).map(({ at, way, name, detail }) => `${at} ${way} ${name} ${detail.slice(0, 60)}`),
    })).catch(String);
  }

  /** Waits until so many frames were decoded, and gives what is known about the call. */
  async sees(frames) {
    return this.page.evaluate(async ({ frames, patience }) => {
      const end = performance.now() + patience;
      while (performance.now() < end) {
        const report = await globalThis.rtcctl.peer?.getStats();
        const all = [...(report?.values() ?? [])];
        const picture = all.find((one) => one.type === "inbound-rtp" && one.kind === "video");
        const pair = report?.get(all.find((one) => one.type === "transport")?.selectedCandidatePairId);
        if (pair && picture?.framesDecoded > frames) {
          const [local, remote] = [report.get(pair.localCandidateId), report.get(pair.remoteCandidateId)];
          return {
            frames: picture.framesDecoded,
            local: local.candidateType,
            remote: remote.candidateType,
            protocol: local.relayProtocol,
          };
        }
        await new Promise((done) => requestAnimationFrame(done));
      }
      throw new Error(`fewer than ${frames} frames in time`);
    }, { frames, patience: PATIENCE });
  }

  /** The mean colour of the other's picture, and whether it moves. */
  async looks() {
    return this.page.evaluate(async () => {
      const video = document.getElementById("remote");
      const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 48 });
      const context = canvas.getContext("2d", { willReadFrequently: true });
      const read = () => {
        context.drawImage(video, 0, 0, 64, 48);
        return context.getImageData(0, 0, 64, 48).data;
      };
      const nextFrame = () => new Promise((done) => video.requestVideoFrameCallback(done));
      const first = read().slice();
      let moved = 0;
      for (let frame = 0; frame < 10; frame += 1) {
        await nextFrame();
        moved = Math.max(moved, read().filter((value, at) => Math.abs(value - first[at]) > 40).length);
      }
      const mean = [0, 1, 2].map((channel) => {
        // The moving bar is white; the rest is the camera's colour.
        const values = [...first].filter((_, at) => at % 4 === channel).sort((one, other) => one - other);
        return values[Math.floor(values.length / 2)];
      });
      return { mean, moved };
    });
  }

  /** Fails unless the other's camera of this colour comes to be seen, and moves. */
  async seesColour(colour) {
    const end = performance.now() + PATIENCE / 4;
    for (;;) {
      const { mean, moved } = await this.looks();
      const distance = Math.hypot(...mean.map((value, channel) => value - COLOURS[colour][channel]));
      if (distance <= 60 && moved >= 50) {
        return;
      }
      if (performance.now() > end) {
        throw new Error(`not the ${colour} camera: colour ${mean}, ${moved} values moved`);
      }
    }
  }

  /** Opens one of the panels beside a call, "chat" or "panel". */
  async opens(side) {
    if (await this.page.isHidden(`#${side}`)) {
      await this.page.click(`#${side}-toggle`);
    }
  }

  /** Waits until the page says this. */
  async notices(key) {
    await this.page.waitForFunction((key) => {
      const notice = document.getElementById("notice");
      return !notice.hidden && notice.dataset.key === key;
    }, key);
  }

  /** From the next page on, devices fail like this. */
  async fails(name, message) {
    await this.page.addInitScript(([name, message]) => {
      navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException(message, name));
    }, [name, message]);
  }

  /** Waits until the other's picture comes by this codec, and negotiations are over. */
  async decodes(codec) {
    await this.page.waitForFunction(async (codec) => {
      const { peer } = globalThis.rtcctl;
      const report = await peer.getStats();
      const picture = [...report.values()].find((one) => one.type === "inbound-rtp" && one.kind === "video");
      return report.get(picture?.codecId)?.mimeType === codec && peer.signalingState === "stable";
    }, codec, { polling: 200 });
  }

  /** Takes complaints back that belong to what was done to this person's network. */
  forgives(pattern) {
    this.complaints = this.complaints.filter((complaint) => !pattern.test(complaint));
  }

  /** Notes from now on when frames of the other's picture are shown. */
  async watches() {
    await this.page.evaluate(() => {
      globalThis.frameTimes = [];
      const video = document.getElementById("remote");
      const note = () => {
        globalThis.frameTimes.push(performance.now());
        video.requestVideoFrameCallback(note);
      };
      video.requestVideoFrameCallback(note);
    });
  }

  /** Watches for a while, until the picture moves; gives the longest time in milliseconds that it stood still. */
  async stoodStill(watched) {
    return this.page.evaluate(async ([watched, patience]) => {
      const [start, fresh, frames] = [performance.now(), 500, 30];
      while (performance.now() < start + patience) {
        const times = globalThis.frameTimes;
        const isMoving = times.length > frames && performance.now() - times.at(-frames) < frames * fresh / 5;
        if (performance.now() > start + watched && isMoving) {
          return Math.max(...times.slice(1).map((time, index) => time - times[index]));
        }
        await new Promise((done) => requestAnimationFrame(done));
      }
      throw new Error("the picture did not come back");
    }, [watched, PATIENCE]);
  }

  /** Whether this browser trusts the certificate of a TURN server: only then it gets a relay from it by TLS. */
  async relaysBy(server) {
    return this.page.evaluate(async (server) => {
      const peer = new RTCPeerConnection({ iceServers: [server], iceTransportPolicy: "relay" });
      peer.createDataChannel("any");
      const found = [];
      peer.onicecandidate = ({ candidate }) => candidate?.candidate && found.push(candidate.relayProtocol);
      const gathered = new Promise((done) => (peer.onicegatheringstatechange = () => peer.iceGatheringState === "complete" && done()));
      await peer.setLocalDescription();
      await gathered;
      peer.close();
      return found;
    }, server);
  }

  async screenshot(name) {
    if (process.env.RTCCTL_SHOTS) {
      await this.page.screenshot({ path: join(process.env.RTCCTL_SHOTS, `${name}.png`) });
    }
  }

  async close() {
    await this.context?.close();
    rmSync(this.home, { recursive: true, force: true });
  }
}
