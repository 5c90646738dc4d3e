// Calls while the service is configured anew, or killed.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as after } from "node:timers/promises";

import { areRelayed, ask, check, pair, rtcctl, seeEachOther } from "./cast.mjs";

export const service = {
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
      areRelayed(told);
      const isSame = await both(() => globalThis.before === globalThis.rtcctl.peer && document.getElementById("notice").hidden);
      check(`nobody notices a reload of ${what}`, isSame.every(Boolean));
    }
    await bo.page.click("#leave");
    await anna.becomes("waiting");
    check("one who stays is told that the other left, by the socket from before", true);
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
};
