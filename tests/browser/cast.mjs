// The people of a scenario, and what is commonly expected of them. URL, CA, NETWORKS and RTCCTL are in the environment.

import { execFileSync } from "node:child_process";

import { PATIENCE, Person } from "./person.mjs";

export const { URL: url, CA: ca } = process.env;
export const networks = process.env.NETWORKS.split(",");
/** Runs a command of the service that the people use. */
export const rtcctl = (...words) => execFileSync("ip", [...JSON.parse(process.env.RTCCTL), ...words], { stdio: "ignore" });
/** The same, for what it says. */
export const ask = (...words) => execFileSync("ip", [...JSON.parse(process.env.RTCCTL), ...words], { encoding: "utf8" });
export const people = [];

export async function person(number, colour, wishes = {}) {
  const one = await Person.in(networks[number], { url, ca, colour, ...wishes });
  people.push(one);
  return one;
}

export function check(what, value) {
  if (!value) {
    throw new Error(`expected that ${what}`);
  }
  console.log(`ok: ${what}`);
}

/** Two people in one room who see each other. */
export async function pair(room, wishes) {
  const anna = await person(0, "red");
  const bo = await person(1, "blue");
  await anna.join(room, wishes);
  await anna.becomes("waiting");
  await anna.screenshot("waiting");
  await bo.join(room, wishes);
  await Promise.all([anna.becomes("connected"), bo.becomes("connected")]);
  return [anna, bo];
}

export async function seeEachOther(anna, bo, frames = 100) {
  const told = await Promise.all([anna.sees(frames), bo.sees(frames)]);
  check(`each decodes more than ${frames} frames: ${told.map((one) => one.frames)}`, true);
  await anna.seesColour("blue");
  await bo.seesColour("red");
  check("each sees the other's moving picture", true);
  return told;
}

/** Without a `protocol`, each end may have taken another way to the relay. */
export function areRelayed(told, protocol) {
  const isBy = (own) => protocol === undefined || own === protocol;
  const isRelayed = ({ local, remote, protocol: own }) => local === "relay" && remote === "relay" && isBy(own);
  check(`both ends are relayed by ${protocol ?? "anything"}: ${JSON.stringify(told)}`, told.every(isRelayed));
}

/** Waits until the calls of both go by pairs of this kind: what a check has found first may be replaced by better. */
export async function settle(both, what, isRight) {
  const end = performance.now() + PATIENCE / 2;
  for (;;) {
    const told = await Promise.all(both.map((one) => one.sees(0)));
    if (told.every(isRight)) {
      check(`${what}: ${JSON.stringify(told)}`, true);
      return told;
    }
    if (performance.now() > end) {
      throw new Error(`expected that ${what}: ${JSON.stringify(told)}`);
    }
  }
}

/** Changes the addresses of a network's device; `next` is with its length of prefix. Gives nothing back. */
export function renumber(network, device, old, next, gateway) {
  const ip = (...words) => execFileSync("ip", ["-n", network, ...words]);
  ip("address", "delete", old, "dev", device);
  ip("address", "add", next, "dev", device);
  ip("route", "replace", "default", "via", gateway);
}
