// Two browsers in a call, and with RELAYED in another one by the relay alone, watched until the standard input ends.
// URL, CA and NETWORKS are in the environment.
//
// Prints `CHANNEL MS` ten times a second for each channel that is well: `call` and `relayed-call` when both decode new
// frames, `call-room` when both pages say nothing of a lost connection. MS is the time of the machine's clock.

import { setTimeout as after } from "node:timers/promises";

import { pair, people } from "./cast.mjs";

const EVERY_MS = 100;

/** The same person with another tab. */
async function tab(person) {
  const other = Object.create(person);
  other.page = await person.context.newPage();
  other.page.setDefaultTimeout(45000);
  return other;
}

const look = (one) => one.page.evaluate(async () => {
  const report = await globalThis.rtcctl?.peer?.getStats();
  const picture = [...(report?.values() ?? [])].find((entry) => entry.type === "inbound-rtp" && entry.kind === "video");
  return { frames: picture?.framesDecoded ?? 0, isQuiet: document.getElementById("notice").hidden };
}).catch(() => ({ frames: 0, isQuiet: false }));

async function watch(channel, couple, others = []) {
  let before = [];
  for (;;) {
    const started = Date.now();
    const seen = await Promise.all(couple.map(look));
    const now = Date.now();
    // Another connection counts from zero again.
    if (before.length > 0 && seen.every(({ frames }, index) => frames > 0 && frames !== before[index].frames)) {
      console.log(`${channel} ${now}`);
    }
    if (seen.every(({ isQuiet }) => isQuiet)) {
      others.forEach((other) => console.log(`${other} ${now}`));
    }
    before = seen;
    await after(Math.max(0, started + EVERY_MS - Date.now()));
  }
}

try {
  const couple = await pair("chaos");
  await Promise.all(couple.map((one) => one.sees(10)));
  const watching = [watch("call", couple, ["call-room"])];
  if (process.env.RELAYED) {
    const tabs = await Promise.all(couple.map(tab));
    for (const one of tabs) {
      await one.join("chaos by relay", { relay: true });
    }
    await Promise.all(tabs.map((one) => one.becomes("connected")));
    await Promise.all(tabs.map((one) => one.sees(10)));
    watching.push(watch("relayed-call", tabs));
  }
  console.log("watching");
  const ended = new Promise((done) => process.stdin.resume().on("end", done));
  await Promise.race([ended, ...watching]);
} catch (error) {
  console.error(`failed: ${error.stack}`);
  process.exitCode = 1;
} finally {
  await Promise.allSettled(people.map((one) => one.close()));
}
process.exit();
