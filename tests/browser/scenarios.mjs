// What people do with the pages. Run as: node scenarios.mjs SCENARIO, with URL, CA and NETWORKS in the environment.

import { setTimeout as after } from "node:timers/promises";

import { calls } from "./calls.mjs";
import { check, people } from "./cast.mjs";
import { keys } from "./key.mjs";
import { old } from "./old.mjs";
import { pages } from "./pages.mjs";
import { PATIENCE } from "./person.mjs";
import { phone } from "./phone.mjs";
import { service } from "./service.mjs";
import { looks } from "./shots.mjs";
import { talk } from "./talk.mjs";
import { trouble } from "./trouble.mjs";

const scenarios = { ...calls, ...keys, ...old, ...pages, ...looks, ...phone, ...service, ...talk, ...trouble };

async function run(name) {
  await scenarios[name]();
  for (const one of people) {
    check(`nothing is complained about: ${one.complaints}`, one.complaints.length === 0);
  }
}

const name = process.argv[2];
/** Pictures of everything take longer; so does a large file that loses packets, by the square root of the loss. */
const patience = process.env.RTCCTL_SHOTS ? 20 * PATIENCE : name === "files" ? 10 * PATIENCE : 4 * PATIENCE;
const deadline = after(patience, null, { ref: false }).then(() => Promise.reject(new Error("the scenario takes too long")));
try {
  await Promise.race([run(name), deadline]);
  console.log(`passed: ${name}`);
} catch (error) {
  console.error(`failed: ${name}: ${error.stack}`);
  for (const [number, one] of people.entries()) {
    const state = await one.page?.evaluate(() => `${document.documentElement.dataset.state}: ${document.getElementById("notice")?.textContent}`).catch(() => "gone");
    console.error(`person ${number}: ${state}; complaints: ${one.complaints.join(" | ")}`);
    const events = await one.page?.evaluate(() => globalThis.rtcctl.journal.events.slice(-150).map(({ at, way, name, detail }) => `${at} ${way} ${name} ${detail.slice(0, 90)}`)).catch(() => []);
    console.error(`its log:\n  ${(events ?? []).join("\n  ")}`);
    await one.screenshot(`failed-${name}-${number}`).catch(() => {});
  }
  process.exitCode = 1;
} finally {
  await Promise.allSettled(people.map((one) => one.close()));
}
