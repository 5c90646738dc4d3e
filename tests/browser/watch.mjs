// Two browsers in a call, and with RELAYED in another one by the relay alone, watched until the standard input ends.
// URL, CA and NETWORKS are in the environment.
//
// Prints `CHANNEL MS` five times a second for each channel that is well: `call` and `relayed-call` when both decode new
// frames, `call-room` when both pages say nothing of a lost connection. MS is the time of the machine's clock. The pages
// themselves take note, so that it does not matter how soon they are asked.

import { setTimeout as after } from "node:timers/promises";

import { pair, people } from "./cast.mjs";

const EVERY_MS = 80;
const SPAN_MS = 200;
const ASKED_EVERY_MS = 300;
/** Of a pause as long as this it is told what the pages did meanwhile. */
const LONG_MS = 4000;

/** The same person with another tab. */
async function tab(person) {
  const other = Object.create(person);
  other.page = await person.context.newPage();
  // Whoever starts it waits for no longer.
  other.page.setDefaultTimeout(120000);
  return other;
}

const takeNote = (one) => one.page.evaluate((every) => {
  globalThis.signs = { moving: [], quiet: [] };
  let before = 0;
  const look = async () => {
    const report = await globalThis.rtcctl.peer?.getStats().catch(() => undefined);
    const picture = [...(report?.values() ?? [])].find((entry) => entry.type === "inbound-rtp" && entry.kind === "video");
    const frames = picture?.framesDecoded ?? 0;
    // Another connection counts from zero again.
    if (frames > 0 && frames !== before) {
      globalThis.signs.moving.push(Date.now());
    }
    before = frames;
    if (document.getElementById("notice").hidden) {
      globalThis.signs.quiet.push(Date.now());
    }
    setTimeout(look, every);
  };
  look();
}, EVERY_MS);

const ask = (one) => one.page.evaluate(() => {
  const { signs } = globalThis;
  globalThis.signs = { moving: [], quiet: [] };
  return signs;
});

/** What a page took note of since a moment of the machine's clock. */
const since = (one, from) => one.page.evaluate((from) => {
  const { timeOrigin } = performance;
  const events = globalThis.rtcctl.journal.events.filter(({ at }) => timeOrigin + at >= from - 500);
  return events.map(({ at, way, name, detail }) => `${Math.round(timeOrigin + at - from)} ${way} ${name} ${detail.slice(0, 70)}`);
}, from).catch(String);

async function watch(couple, channels) {
  let movedAt = Date.now();
  await Promise.all(couple.map(takeNote));
  /** The spans in which each of them was well, by channel. */
  const seen = new Map(Object.values(channels).map((channel) => [channel, couple.map(() => new Set())]));
  for (;;) {
    const answers = await Promise.all(couple.map(ask));
    for (const [kind, channel] of Object.entries(channels)) {
      const spans = seen.get(channel);
      answers.forEach((answer, index) => answer[kind].forEach((at) => spans[index].add(Math.floor(at / SPAN_MS))));
      const both = [...spans[0]].filter((span) => spans[1].has(span));
      for (const span of both.sort((one, other) => one - other)) {
        console.log(`${channel} ${span * SPAN_MS}`);
        if (kind === "moving") {
          if (span * SPAN_MS - movedAt > LONG_MS) {
            for (const told of await Promise.all(couple.map((one) => since(one, movedAt)))) {
              console.log(`page ${channel} ${JSON.stringify(told)}`);
            }
          }
          movedAt = span * SPAN_MS;
        }
        spans.forEach((set) => set.delete(span));
      }
    }
    await after(ASKED_EVERY_MS);
  }
}

try {
  const couple = await pair("chaos");
  const everybody = [...couple];
  await Promise.all(couple.map((one) => one.sees(10)));
  const watching = [watch(couple, { moving: "call", quiet: "call-room" })];
  if (process.env.RELAYED) {
    const tabs = await Promise.all(couple.map(tab));
    everybody.push(...tabs);
    for (const one of tabs) {
      await one.join("chaos by relay", { relay: true });
    }
    await Promise.all(tabs.map((one) => one.becomes("connected")));
    await Promise.all(tabs.map((one) => one.sees(10)));
    watching.push(watch(tabs, { moving: "relayed-call" }));
  }
  const ended = new Promise((done) => process.stdin.resume().on("end", done));
  await Promise.race([ended, ...watching]);
  for (const person of everybody) {
    console.log(`page ${JSON.stringify(await person.tells())}`);
  }
} catch (error) {
  console.error(`failed: ${error.stack}`);
  process.exitCode = 1;
} finally {
  await Promise.allSettled(people.map((one) => one.close()));
}
process.exit();
