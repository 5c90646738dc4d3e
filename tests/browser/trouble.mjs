// What goes wrong around a call: networks that change, relays that restart, devices that are denied.

import { execFileSync } from "node:child_process";

import { check, networks, pair, person, renumber, rtcctl, seeEachOther, url } from "./cast.mjs";

/** Milliseconds that a picture may stand still. */
const BACK_WITHIN = 5000;

/** Fails unless both pictures stand still for less than five seconds while this happens; tells how long they did. */
async function comesBack(people, what, act) {
  await Promise.all(people.map((one) => one.watches()));
  act();
  const gaps = await Promise.all(people.map((one) => one.stoodStill(BACK_WITHIN)));
  check(`${what}: pictures stand still for ${gaps.map((gap) => Math.round(gap)).join(" and ")} ms`, gaps.every((gap) => gap < BACK_WITHIN));
}

const ip = (...words) => execFileSync("ip", words);
/** What a browser says of a network that changes. */
const CHANGED = /ERR_(INTERNET_DISCONNECTED|NETWORK_CHANGED|ADDRESS_UNREACHABLE|CONNECTION_(RESET|CLOSED|TIMED_OUT))/;

/** Devices that are pulled out in a call: the other is told, looks at no picture that stands still, and takes it for no broken network. */
async function isTakenAway(bo, anna) {
  await bo.page.evaluate(async () => {
    const { getUserMedia } = MediaDevices.prototype;
    navigator.mediaDevices.getUserMedia = async (...wishes) => {
      const stream = await getUserMedia.apply(navigator.mediaDevices, wishes);
      globalThis.devices = stream.getTracks();
      return stream;
    };
  });
  await bo.opens("panel");
  await bo.page.click("#tab-tabTune");
  await bo.page.selectOption("#camera-now", "");
  const isTold = (told) => anna.page.waitForFunction((told) => Object.entries(told).every(([key, value]) => globalThis.rtcctl.other[key] === value), told);
  await isTold({ hidden: true, muted: false });
  await bo.page.selectOption("#camera-now", { index: 0 });
  await isTold({ hidden: false });
  await anna.seesColour("blue");
  // As the browser does when a cable is pulled.
  await bo.page.evaluate(() => globalThis.devices.forEach((track) => [track.stop(), track.dispatchEvent(new Event("ended"))]));
  await bo.notices("gone");
  await isTold({ hidden: true, muted: true });
  check("who has lost camera and microphone is told, and so is the other", await anna.page.isVisible("#veil"));
  await bo.screenshot("devices-gone");
  const isRestarted = () => anna.page.evaluate(() => globalThis.rtcctl.journal.events.some(({ name }) => name === "silence"));
  const end = performance.now() + 3000;
  while (performance.now() < end && !(await isRestarted()));
  check("a person who sends nothing is no broken network", !(await isRestarted()) && (await anna.page.isHidden("#notice")));
  await bo.page.click("#notice button");
  await isTold({ hidden: false, muted: false });
  await anna.seesColour("blue");
  check("and the call has them again once they are there", await bo.page.isHidden("#notice"));
}

export const trouble = {
  async network() {
    const [anna, bo] = await pair("network");
    await seeEachOther(anna, bo, 40);
    const [network] = networks;
    const [, gateway] = /via (\S+)/.exec(ip("-n", network, "route", "show", "default"));
    const old = gateway.replace(/\d+$/, "2");
    const next = gateway.replace(/\d+$/, "77");
    await comesBack([anna, bo], "the address of one changes", () => renumber(network, "eth0", `${old}/24`, `${next}/24`, gateway));
    anna.forgives(CHANGED);
    await anna.seesColour("blue");
    await bo.seesColour("red");
    const address = await anna.page.evaluate(async () => {
      const report = await globalThis.rtcctl.peer.getStats();
      const pair = report.get([...report.values()].find((one) => one.type === "transport").selectedCandidatePairId);
      return report.get(pair.localCandidateId).address;
    });
    check(`the call goes by ${address}`, address === next);
    check("it is the same call", await anna.page.evaluate(() => globalThis.rtcctl.journal.events.filter(({ name }) => name === "offer").length > 1));
  },

  // Behind a router a change leaves no trace: what was sent to the old address is lost without a word.
  async roams() {
    const [anna, bo] = await pair("roams", { relay: true });
    await seeEachOther(anna, bo, 40);
    const [network] = networks;
    const [, gateway] = /via (\S+)/.exec(ip("-n", network, "route", "show", "default"));
    const [old, next] = ["2", "77"].map((last) => gateway.replace(/\d+$/, last));
    await comesBack([anna, bo], "the address of one behind a router changes", () => renumber(network, "eth0", `${old}/24`, `${next}/24`, gateway));
    anna.forgives(CHANGED);
    await anna.seesColour("blue");
    await bo.seesColour("red");
  },

  async ways() {
    const [anna, bo] = await pair("ways", { relay: true });
    await seeEachOther(anna, bo, 40);
    await comesBack([anna, bo], "turn restarts", () => rtcctl("restart", "turn"));
    await anna.seesColour("blue");
    await bo.seesColour("red");
    await anna.screenshot("after-turn");

    await anna.opens("panel");
    await anna.page.click("#tab-tabTune");
    for (const way of ["tcp", "tls", "udp"]) {
      await anna.page.selectOption("#force", way);
      await anna.page.waitForFunction(async (way) => {
        const report = await globalThis.rtcctl.peer.getStats();
        const pair = report.get([...report.values()].find((one) => one.type === "transport")?.selectedCandidatePairId);
        return pair && report.get(pair.localCandidateId)?.relayProtocol === way;
      }, way, { polling: 200 });
      check(`in the middle of a call the relay can be forced to ${way}`, true);
    }
    await anna.page.selectOption("#codec", "VP9");
    await bo.decodes("video/VP9");
    check("and the codec to VP9", true);
    await bo.opens("panel");
    await bo.page.click("#tab-tabTune");
    await Promise.all([anna, bo].map((one) => one.page.selectOption("#codec", "VP8")));
    await Promise.all([anna, bo].map((one) => one.decodes("video/VP8")));
    const [before] = await Promise.all([anna, bo].map((one) => one.sees(0)));
    await Promise.all([anna, bo].map((one) => one.sees(before.frames + 20)));
    check("offers from both sides at once are sorted out", true);
    await anna.page.click("#tab-tabSdp");
    await anna.page.waitForSelector(".sdp .added");
    await anna.screenshot("sdp");
    const download = anna.page.waitForEvent("download");
    await anna.page.click("#tab-tabTune");
    await anna.page.click("#view-tabTune .row button:last-child");
    const words = await (await download).createReadStream().then((stream) => stream.setEncoding("utf8").reduce((all, part) => all + part, ""));
    const told = JSON.parse(words);
    check("the report can be read and holds no password", told.events.length > 10 && told.stats.length > 10 && !/"credential":"(?!\(left out\))/.test(JSON.stringify(told)));
  },

  async devices() {
    const anna = await person(0, "red");
    for (const [name, message, key] of [
      ["NotAllowedError", "Permission denied", "denied"],
      ["NotAllowedError", "Permission denied by system", "deniedBySystem"],
      ["NotReadableError", "Could not start video source", "busy"],
      ["NotFoundError", "Requested device not found", "missing"],
    ]) {
      await anna.fails(name, message);
      await anna.page.goto(`${url}/?room=devices`);
      await anna.notices(key);
      await anna.screenshot(`device-${key}`);
    }
    check("each failure of a device is told in its own words", true);
    const bo = await person(1, "blue");
    await bo.join("devices");
    await bo.becomes("waiting");
    await anna.page.click("#join");
    await Promise.all([anna.becomes("connected"), bo.becomes("connected")]);
    await anna.seesColour("blue");
    check("one without devices still sees the other", true);
    await anna.page.waitForFunction(() => globalThis.rtcctl.other);
    await isTakenAway(bo, anna);
  },
};
