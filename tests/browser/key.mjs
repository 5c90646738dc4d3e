// Calls where one needs an invite link: without a key, with a wrong one, with the right one; pages that know no keys.

import { ask, check, people, person, seeEachOther, url } from "./cast.mjs";
import { faultsOf } from "./shots.mjs";

const PHONE = { width: 360, height: 740 };
const invite = (...words) => JSON.parse(ask("invite", "--json", ...words)).link;
/** The refusals that are meant to be. */
const REFUSED = /status of (401|429)/;

/** Waits until the page asks for a key, and says why. */
async function isAsked(one, why) {
  await one.page.waitForFunction((why) => document.getElementById("key-words")?.dataset.text === why && !document.getElementById("key-form").hidden, why);
}

/** A picture of the page, on which nothing sticks out or is against the rules of accessibility. */
async function looksGood(one, name) {
  await one.screenshot(name);
  const faults = await faultsOf(one.page);
  check(`${name} has no faults: ${faults.join(" | ")}`, faults.length === 0);
}

async function types(one, words) {
  await one.page.fill("#key", words);
  await one.page.click("#key-form button");
}

export const keys = {
  async key() {
    const room = "key 会议";
    const link = invite("--room", room);
    const anna = await person(0, "red");
    await anna.page.goto(`${url}/`);
    await isAsked(anna, "keyMissing");
    check("one without a key is asked for it, before choosing a room", await anna.page.isHidden("#form"));
    await looksGood(anna, "key-missing-en");
    await types(anna, "abcdefghijklmnopqrstuvwxyz");
    await isAsked(anna, "keyWrong");
    await looksGood(anna, "key-wrong-en");
    await types(anna, link);
    await anna.becomes("lobby");
    check("a pasted link brings its room along", (await anna.page.inputValue("#room")) === room);
    await anna.page.click("#join");
    await anna.becomes("waiting");
    const words = await anna.page.textContent("#link");
    check("the link that one gives to others has the key in it", words.endsWith(link.slice(link.indexOf("#key="))));
    check("and the address has it not", !(await anna.page.evaluate(() => location.href)).includes("key="));

    // In this very tab the fragment alone is another, for which no browser loads anything.
    const dora = await person(2, "green");
    await dora.page.goto(`${url}/?room=same`);
    await isAsked(dora, "keyMissing");
    await dora.page.goto(`${url}/?room=same${link.slice(link.indexOf("#"))}`);
    await dora.becomes("lobby");
    check("a link that is opened where its room was asked for without a key leads in", !(await dora.page.evaluate(() => location.href)).includes("key="));
    await dora.close();

    const bo = await person(1, "blue", { locale: "zh-CN", viewport: PHONE });
    await bo.page.goto(`${url}/?room=x&join=1#key=abcdefghijklmnopqrstuvwxyz`);
    await isAsked(bo, "keyWrong");
    await looksGood(bo, "key-wrong-zh-phone");
    await bo.page.goto(words);
    await bo.becomes("lobby");
    await bo.page.click("#join");
    await Promise.all([anna.becomes("connected"), bo.becomes("connected")]);
    await seeEachOther(anna, bo, 40);
    const cookie = (await bo.context.cookies()).find(({ name }) => name.startsWith("__Host-rtcctl-"));
    check("the cookie is out of reach of scripts and of other sites", cookie.httpOnly && cookie.secure && cookie.sameSite === "Lax");

    const fresh = invite("--room", room, "--new-key");
    const [before] = await Promise.all([anna, bo].map((one) => one.sees(0)));
    await Promise.all([anna, bo].map((one) => one.sees(before.frames + 40)));
    await bo.page.click("#mute");
    await anna.page.waitForSelector("#other-muted", { state: "visible" });
    check("another key disturbs no call", (await anna.page.isHidden("#notice")) && (await bo.page.isHidden("#notice")));
    await bo.page.click("#leave");
    await anna.becomes("waiting");
    check("who stays is still told that the other left", true);

    const carol = await person(2, "blue", { viewport: PHONE });
    await carol.page.goto(link);
    await isAsked(carol, "keyWrong");
    check("the link from before is worthless", true);
    await bo.page.reload();
    await isAsked(bo, "keyWrong");
    check("and so is the session from before", true);
    await carol.page.evaluate(() => Promise.all([...Array(40).keys()].map((at) => fetch("/api/session", { method: "POST", headers: { authorization: `Bearer wrong-${at}` } }))));
    await types(carol, fresh);
    await isAsked(carol, "keyLimited");
    await looksGood(carol, "key-limited-en-phone");
    await carol.page.click("#language");
    await looksGood(carol, "key-limited-zh-phone");
    check("guessing has to wait", true);
    await types(bo, fresh);
    await bo.becomes("lobby");
    await bo.page.click("#join");
    await Promise.all([anna.becomes("connected"), bo.becomes("connected")]);
    check("with the new link one is in, and in a call with who was there", true);
    await bo.page.goto(`${url}/ice-test`);
    await bo.page.waitForFunction(() => document.getElementById("user").value.includes("session-"));
    check("the ICE test has the session, too", true);
    people.forEach((one) => one.forgives(REFUSED));
  },

  // The operator's own page, as the tutorial has it.
  async keyed() {
    const link = invite("--room", "old");
    const anna = await person(0, "red", { locale: "zh-CN", viewport: PHONE });
    await anna.page.goto(`${url}/?room=old`);
    await isAsked(anna, "keyMissing");
    await looksGood(anna, "key-gate-zh-phone");
    await types(anna, link);
    await anna.page.waitForSelector("#connect");
    check("a page that knows nothing of keys comes after the key was given", (await anna.page.textContent("h1")) === "Room");
    const bo = await person(1, "blue");
    await bo.page.goto(link);
    await bo.page.waitForSelector("#connect");
    check("or at once by an invite link, which leaves no key in the address", !(await bo.page.evaluate(() => location.href)).includes("key="));
    for (const one of [anna, bo]) {
      await one.page.click("#connect");
      await one.page.waitForFunction(() => document.getElementById("connect").disabled);
    }
    for (const one of [anna, bo]) {
      await one.page.waitForFunction(() => document.getElementById("remotevideo").getVideoPlaybackQuality().totalVideoFrames > 50);
    }
    check("two of them see each other", true);
    await bo.screenshot("key-old-page");
    people.forEach((one) => one.forgives(REFUSED));
    people.forEach((one) => one.forgives(/favicon|status of 404/));
  },
};
