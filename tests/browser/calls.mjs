// Calls by each kind of path, and their mending.

import { areRelayed, check, pair, person, rtcctl, seeEachOther, settle } from "./cast.mjs";

export const calls = {
  async host() {
    const [anna, bo] = await pair("会议 room 1");
    const told = await seeEachOther(anna, bo);
    check(`no relay is used: ${JSON.stringify(told)}`, told.every(({ local, remote }) => ![local, remote].includes("relay")));
    await anna.page.click("#chat-toggle");
    await bo.page.click("#chat-toggle");
    await bo.page.fill("#chat-text", "你好 <b>");
    await bo.page.click("#chat-send");
    await anna.page.waitForFunction(() => globalThis.rtcctl.chat.some(({ from, text }) => from === "other" && text === "你好 <b>"));
    check("a line of chat arrives as it was typed", (await anna.page.textContent("#chat-log")).includes("你好 <b>"));
    await anna.page.click("#panel-toggle");
    await anna.page.waitForFunction(() => document.getElementById("facts")?.children.length > 0);
    await anna.screenshot("in-call");
    await bo.page.click("#screen");
    await anna.page.waitForFunction(() => document.getElementById("remote").videoWidth > 640, null, { polling: 200 });
    check("a shared screen takes the camera's place", true);
  },

  async relay() {
    const [anna, bo] = await pair("relay", { relay: true });
    const told = await seeEachOther(anna, bo);
    areRelayed(told);
    await anna.screenshot("relayed");
  },

  // Both are behind NATs that map each of them to one outer port; see tests/browser/nat.rs.
  async punch() {
    const both = await pair("punch");
    await seeEachOther(...both);
    const isPunched = ({ local, remote, protocol }) => local === "srflx" && remote === "srflx" && !protocol;
    await settle(both, "both ends are the outer addresses that STUN told", isPunched);
    await both[0].screenshot("punched");
  },

  // Both are behind NATs that map each of them to another port for each destination.
  async udp() {
    const both = await pair("udp");
    const told = await seeEachOther(...both);
    const isRelayed = ({ local, remote, protocol }) => (local === "relay" ? protocol === "udp" : remote === "relay");
    check(`each call goes through a relay by UDP: ${JSON.stringify(told)}`, told.every(isRelayed));
    await both[0].join("udp, both relayed", { relay: true });
    await both[0].becomes("waiting");
    await both[1].join("udp, both relayed", { relay: true });
    await Promise.all(both.map((one) => one.becomes("connected")));
    await seeEachOther(...both);
    // A pair by TCP may have been there first.
    const isByUdp = ({ local, remote, protocol: own }) => local === "relay" && remote === "relay" && own === "udp";
    await settle(both, "both ends are relayed by UDP", isByUdp);
  },

  async tcp() {
    const [anna, bo] = await pair("tcp");
    areRelayed(await seeEachOther(anna, bo), "tcp");
  },

  async tls() {
    const [anna, bo] = await pair("tls");
    areRelayed(await seeEachOther(anna, bo), "tls");
    await anna.page.click("#panel-toggle");
    await anna.page.waitForFunction(() => document.getElementById("facts")?.children.length > 0);
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
    areRelayed(told);
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

  async mend() {
    const [anna, bo] = await pair("mend", { relay: true });
    await seeEachOther(anna, bo, 20);

    const frames = async (one) => (await one.sees(0)).frames;
    const isSame = (one) => one.page.evaluate(() => globalThis.before === globalThis.rtcctl.peer);
    await Promise.all([anna, bo].map((one) => one.page.evaluate(() => (globalThis.before = globalThis.rtcctl.peer) && 0)));


    // It may be gone again before the order has been carried out.
    await Promise.all([anna, bo].map((one) => one.page.evaluate(() => {
      const notice = document.getElementById("notice");
      new MutationObserver(() => (globalThis.wasNoticed ||= !notice.hidden)).observe(notice, { attributes: true });
    })));
    await Promise.all([anna, bo].map((one) => one.watches()));
    rtcctl("restart", "signaling");
    await Promise.all([anna, bo].map((one) => one.page.waitForFunction(() => globalThis.wasNoticed)));
    await Promise.all([anna, bo].map((one) => one.page.waitForFunction(() => document.getElementById("notice").hidden)));
    const gaps = await Promise.all([anna, bo].map((one) => one.stoodStill(0)));
    check(`pictures never stop while signaling restarts, for no longer than ${gaps.map(Math.round)} ms`, gaps.every((gap) => gap < 1000));
    check("a call outlives a restart of signaling", (await isSame(anna)) && (await isSame(bo)));
    for (const muted of [true, false]) {
      await bo.page.click("#mute");
      await anna.page.waitForFunction((muted) => globalThis.rtcctl.other?.muted === muted, muted);
    }
    check("and the other is told who is muted after it", true);

    rtcctl("restart", "turn");
    const before = await Promise.all([anna, bo].map(frames));
    await Promise.all([anna, bo].map((one, index) => one.sees(before[index] + 60)));
    const told = await Promise.all([anna, bo].map((one) => one.sees(0)));
    check(`a relayed call mends itself after a restart of turn: ${JSON.stringify(told)}`, told.every(({ local }) => local === "relay"));

    await bo.page.click("#leave");
    await anna.becomes("waiting");
    check("one who stays is still told that the other left", (await anna.page.textContent("#notice")).includes("left"));
  },
};
