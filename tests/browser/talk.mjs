// What people do in a call: show a screen, write, send files, mute, leave and come back.

import { createHash, randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { check, pair, person, rtcctl, seeEachOther, url } from "./cast.mjs";

const hash = (data) => createHash("sha256").update(data).digest("hex");
/** Bytes of the large file; a smaller number is for who works on the test. */
const LARGE = Number(process.env.RTCCTL_FILE_BYTES ?? 100 * 1024 * 1024);

/** Sends a file from one to the other, who takes and saves it. Gives whether it is the same, and the seconds it took. */
async function sends(from, to, bytes, name) {
  const data = randomBytes(bytes);
  const path = join(from.home, name);
  writeFileSync(path, data);
  for (const one of [from, to]) {
    await one.opens("chat");
  }
  await from.page.setInputFiles("#file", path);
  await to.page.click('li[data-state="offered"] button.primary');
  const start = performance.now();
  const link = to.page.locator('li[data-state="done"] a[download]').last();
  // The deadline of the scenario is what bounds it.
  await link.waitFor({ timeout: 0 });
  const seconds = (performance.now() - start) / 1000;
  const [download] = await Promise.all([to.page.waitForEvent("download"), link.click()]);
  const isSame = hash(readFileSync(await download.path())) === hash(data) && download.suggestedFilename() === name;
  return { isSame, seconds };
}

/** What somebody's page knows of the other. */
const knows = (one, what) => one.page.waitForFunction((what) => Object.entries(what).every(([key, value]) => globalThis.rtcctl.other?.[key] === value), what);

export const talk = {
  async talk() {
    const [anna, bo] = await pair("talk");
    await seeEachOther(anna, bo, 20);

    await bo.page.click("#screen");
    await knows(anna, { sharing: true });
    await anna.page.waitForFunction(() => document.getElementById("remote").videoWidth > 640, null, { polling: 200 });
    check("a shared screen takes the camera's place and is told", await anna.page.isVisible("#other-sharing"));
    await anna.screenshot("other-shares");
    await bo.page.click("#screen");
    await knows(anna, { sharing: false });
    await anna.page.waitForFunction(() => document.getElementById("remote").videoWidth <= 640, null, { polling: 200 });
    await anna.seesColour("blue");
    check("then the camera is seen again", true);

    await anna.page.click("#mute");
    await anna.page.click("#hide");
    await knows(bo, { muted: true, hidden: true });
    check("the other sees who is muted and hidden", (await bo.page.isVisible("#other-muted")) && (await bo.page.isVisible("#veil")));
    await bo.screenshot("other-hidden");
    await anna.page.keyboard.press("v");
    await knows(bo, { muted: true, hidden: false });
    await bo.seesColour("red");
    check("keys work as the buttons do", true);

    const { isSame } = await sends(bo, anna, 3_333_333, "图 1.bin");
    check("a file arrives whole under its name", isSame);
    await anna.screenshot("chat");

    rtcctl("restart", "signaling");
    await anna.page.keyboard.press("m");
    await knows(bo, { muted: false, hidden: false });
    check("mute states are told while signaling restarts", true);

    const tooLong = "x".repeat(4001);
    for (const words of [tooLong, tooLong.slice(1)]) {
      await anna.page.fill("#chat-text", words);
      await anna.page.press("#chat-text", "Enter");
    }
    await bo.page.waitForSelector("#chat-log p.bubble");
    const heard = await bo.page.locator("#chat-log p.bubble").allTextContents();
    const told = await anna.page.textContent("#chat-log .aside");
    check("a message that is too long is kept back with a word, one that fits arrives whole", heard.join() === tooLong.slice(1) && told.includes("4,000"));

    for (const leaver of [anna, bo]) {
      const other = leaver === anna ? bo : anna;
      await leaver.page.click("#leave");
      await other.becomes("waiting");
      await leaver.becomes("lobby");
      await leaver.page.click("#join");
      await Promise.all([anna.becomes("connected"), bo.becomes("connected")]);
      await seeEachOther(anna, bo, 20);
    }
    check("each can hang up and come back", true);
  },

  // Two in a hundred packets are lost on the way; see tests/browser.rs.
  async files() {
    const [anna, bo] = await pair("files", { relay: true });
    await seeEachOther(anna, bo, 20);
    await Promise.all([anna, bo].map((one) => one.page.click("#hide")));
    const { isSame, seconds } = await sends(anna, bo, LARGE, "large.bin");
    check(`${LARGE} bytes through the relay are the same on the other side, after ${seconds.toFixed(1)} s`, isSame);
    await bo.screenshot("file-done");
  },

  // A machine without a camera, or whose user says no: the call takes place all the same.
  async alone() {
    const anna = await person(0, "red");
    await anna.fails("NotFoundError", "Requested device not found");
    await anna.page.goto(`${url}/?room=alone`);
    await anna.notices("missing");
    await anna.screenshot("no-camera");
    await anna.page.check("#screen-instead");
    await anna.page.click("#join");
    await anna.becomes("waiting");
    const bo = await person(1, "blue");
    await bo.join("alone");
    await Promise.all([anna.becomes("connected"), bo.becomes("connected")]);
    await anna.seesColour("blue");
    await bo.page.waitForFunction(() => document.getElementById("remote").videoWidth > 640, null, { polling: 200 });
    check("one without a camera shows a screen instead", true);
    await anna.page.click("#screen");
    await knows(bo, { hidden: true, muted: true });
    check("and is said to be hidden and muted without it", await bo.page.isVisible("#veil"));
  },
};
