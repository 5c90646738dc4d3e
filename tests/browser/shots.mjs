// Pictures of the pages in every state, both languages, both themes, on a desktop and a phone, and what is wrong in them.
//
// The scenarios "looks" and "looksSmall" go through all states, so that between them each language, theme and size is
// seen. Where RTCCTL_SHOTS names a folder for pictures, they go through every combination.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import { check, person, rtcctl, url } from "./cast.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
export const SIZES = { desktop: { width: 1280, height: 800 }, phone: { width: 360, height: 740 } };
/** Every language and theme for a size. */
const every = (size) => ["en-US", "zh-CN"].flatMap((locale) => ["light", "dark"].map((scheme) => [size, locale, scheme]));

/** What axe-core finds on the page as it is. */
export async function violations(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"], runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"] }));
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(" | ")}`);
}

/** What sticks out of the page to the side, and words that are cut off. */
export const overflow = (page) =>
  page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    const isScrolled = (node) => node.closest(".scroll, .tabs, pre, textarea") !== null;
    const out = [...document.body.querySelectorAll("*")].filter((node) => {
      const box = node.getBoundingClientRect();
      return box.width > 0 && box.right > width + 1 && !isScrolled(node);
    });
    const cut = [...document.body.querySelectorAll("button, h1, h2, a, label, dd")].filter((node) => node.scrollWidth > node.clientWidth + 1 && node.clientWidth > 0 && getComputedStyle(node).display !== "inline" && !node.classList.contains("unseen"));
    return [...out.map((node) => `sticks out: ${node.outerHTML.slice(0, 100)}`), ...cut.map((node) => `cut off: ${node.outerHTML.slice(0, 100)}`)];
  });

/** What is wrong with the page as it is. */
export const faultsOf = async (page) => [...(await overflow(page)), ...(await violations(page))];

export const looks = {
  looks: () => lookAt("desktop", "en-US", "light"),
  looksSmall: () => lookAt("phone", "zh-CN", "dark"),
};

/** Looks at all states, at this size. */
async function lookAt(size, ...wishes) {
  const bo = await person(1, "blue");
  const faults = [];
  for (const [, locale, scheme] of process.env.RTCCTL_SHOTS ? every(size) : [[size, ...wishes]]) {
    const anna = await person(0, "red", { locale, viewport: SIZES[size], scheme });
    const look = async (state) => {
      const name = `${state}-${size}-${locale.slice(0, 2)}-${scheme}`;
      await anna.page.mouse.move(1, 1);
      await anna.screenshot(name);
      const found = await faultsOf(anna.page);
      faults.push(...found.map((fault) => `${name}: ${fault}`));
    };
    await walk(anna, bo, `looks ${size} ${locale} ${scheme}`, look);
    await anna.close();
  }
  faults.forEach((fault) => console.log(fault));
  check(`nothing sticks out, is cut off or is against the rules of accessibility: ${faults.length} faults`, faults.length === 0);
}

/** Leads one through every state. */
async function walk(anna, bo, room, look) {
  await anna.page.goto(`${url}/?room=${encodeURIComponent(room)}`);
  await anna.page.waitForFunction(() => document.getElementById("preview").videoWidth > 0 && document.getElementById("camera").options.length > 1);
  await look("lobby");
  await anna.page.evaluate(() => document.querySelectorAll("details").forEach((node) => (node.open = true)));
  await look("lobby-open");
  await anna.page.click("#join");
  await anna.becomes("waiting");
  await look("waiting");
  await bo.join(room);
  await anna.becomes("connected");
  await anna.sees(40);
  await look("call");
  await bo.opens("chat");
  await bo.page.fill("#chat-text", "你好! How is the picture?");
  await bo.page.press("#chat-text", "Enter");
  await bo.page.setInputFiles("#file", { name: "holiday-照片.jpg", mimeType: "image/jpeg", buffer: Buffer.alloc(2_345_678, 7) });
  await anna.opens("chat");
  await anna.page.fill("#chat-text", "Very sharp, thank you.");
  await anna.page.press("#chat-text", "Enter");
  await anna.page.waitForSelector('li[data-state="offered"]');
  await look("chat-offer");
  await anna.page.click('li[data-state="offered"] button.primary');
  await anna.page.waitForSelector('li[data-state="done"]');
  await look("chat-done");
  await anna.opens("panel");
  await anna.page.waitForFunction(() => document.getElementById("facts")?.children.length > 0);
  for (const tab of ["Path", "Plots", "Log", "Candidates", "Sdp", "Tune"]) {
    await anna.page.click(`#tab-tab${tab}`);
    await look(`panel-${tab.toLowerCase()}`);
  }
  await anna.page.click("#panel-close");
  await bo.page.click("#mute");
  await bo.page.click("#hide");
  await anna.page.waitForSelector("#veil", { state: "visible" });
  await look("other-hidden");
  await bo.page.click("#leave");
  await anna.becomes("waiting");
  await look("other-left");
  await anna.page.click("#leave");
  await anna.becomes("lobby");
  await beRefused(anna, bo, `${room} for two`, look);
  await anna.page.goto(`${url}/ice-test`);
  await anna.page.waitForFunction(() => document.getElementById("user").value !== "");
  await look("ice-start");
  await anna.page.click("#gather");
  await anna.page.waitForFunction(() => (document.documentElement.dataset.verdict ?? "").startsWith("iceTurn"));
  await look("ice-done");
  await anna.page.click("summary");
  await anna.page.fill("#urls", "stun:127.0.0.1:9\nturn:nowhere.invalid:3478\nturn:127.0.0.1:9?transport=tcp\nhttps://example");
  await anna.page.click("#gather");
  await anna.page.waitForFunction(() => document.documentElement.dataset.verdict === "iceHostOnly");
  await look("ice-bad");
  await anna.fails("NotAllowedError", "Permission denied");
  await anna.page.goto(`${url}/?room=${encodeURIComponent(room)}`);
  await anna.notices("denied");
  await look("denied");
}

/** Leads one through what there is in place of a call. */
async function beRefused(anna, bo, room, look) {
  const cleo = await person(2, "green");
  await Promise.all([bo, cleo].map((one) => one.join(room)));
  await Promise.all([bo, cleo].map((one) => one.becomes("connected")));
  await anna.join(room);
  await anna.becomes("full");
  await look("full");
  await bo.page.click("#leave");
  await bo.becomes("lobby");
  await anna.join(room);
  await anna.becomes("connected");
  await anna.sees(20);
  // Nobody tells that she goes.
  rtcctl("stop", "signaling");
  await cleo.close();
  await anna.notices("bothLost");
  await look("both-lost");
  rtcctl("start", "signaling");
  await anna.becomes("waiting");
  anna.forgives(/socket\.io/);
  await anna.page.click("#leave");
  await anna.becomes("lobby");
  await anna.join("x".repeat(500));
  await anna.notices("roomTooLong");
  await look("room-too-long");
  // What the server says to one more than it takes.
  await anna.page.routeWebSocket(/socket\.io/, (socket) => {
    socket.send(`0${JSON.stringify({ sid: "s", upgrades: [], pingInterval: 30000, pingTimeout: 15000 })}`);
    socket.send(`44${JSON.stringify({ message: "the server is full" })}`);
  });
  await anna.join(room);
  await anna.notices("serverFull");
  await look("server-full");
}
