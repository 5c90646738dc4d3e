// The pages by themselves: languages, the ICE test, whether everybody can use them.

import { check, person, url } from "./cast.mjs";

/** What people type in: nothing, no password, a wrong one, no URLs, and more of them than a browser has connections. */
async function typed(anna) {
  await anna.page.evaluate(() => document.querySelectorAll("details").forEach((node) => (node.open = true)));
  const { urls, user } = await anna.page.evaluate(() => ({ urls: document.getElementById("urls").value, user: document.getElementById("user").value }));
  const many = Array.from({ length: 700 }, (_, at) => `stun:192.0.2.1:${1000 + at}`).join("\n");
  for (const [button, list, password, verdict] of [
    ["gather", " ", "", "iceNoUrl"],
    ["gather", urls, "", "iceNoPassword"],
    ["gather", urls, "wrong", "iceDenied"],
    ["loop", "", "", "iceNoUrl"],
    ["loop", "turn:::1", "x", "loopBadUrl"],
    ["gather", `stun:, turn:::1;<img src=x> ${many.replaceAll("stun:", "stun//")}`, "x", "iceNoUrl"],
  ]) {
    await anna.page.fill("#urls", list);
    await anna.page.fill("#user", user);
    await anna.page.fill("#password", password);
    await anna.page.click(`#${button}`);
    await anna.page.waitForFunction((verdict) => document.documentElement.dataset.verdict === verdict && !document.getElementById("gather").disabled, verdict);
    check(`typed in, ${JSON.stringify(list.slice(0, 20))} with ${JSON.stringify(password)} is ${verdict}`, true);
  }
  check("a list without an end is bounded", (await anna.page.locator("#result-list li").count()) === 60 && (await anna.page.isVisible("#notice")));
}

export const pages = {
  async pages() {
    const anna = await person(0, "red", { locale: "zh-CN" });
    await anna.page.goto(url);
    await anna.becomes("lobby");
    check("a Chinese browser gets Chinese", (await anna.page.textContent("h1[data-text=title]")) === "开始通话");
    await anna.page.waitForFunction(() => document.getElementById("preview").videoWidth > 0);
    await anna.screenshot("lobby-zh");
    await anna.page.click("#language");
    await anna.page.click("#theme");
    check("the language can be changed", (await anna.page.textContent("h1[data-text=title]")) === "Start a call");
    await anna.screenshot("lobby-dark");
    await anna.page.setViewportSize({ width: 390, height: 844 });
    await anna.screenshot("lobby-phone");
    await anna.page.setViewportSize({ width: 1280, height: 800 });
    await anna.page.goto(`${url}/ice-test`);
    await anna.page.waitForFunction(() => document.getElementById("user").value !== "");
    await anna.page.click("#gather");
    await anna.page.waitForFunction(() => (document.documentElement.dataset.verdict ?? "").startsWith("iceTurn"));
    check("the ICE test finds a relay candidate", (await anna.page.textContent("#candidates")).includes("relay"));
    await anna.screenshot("ice-test");
    await anna.page.click("#loop");
    await anna.page.waitForFunction(() => document.documentElement.dataset.verdict === "loopWorks", null, { timeout: 0 });
    check("by each transport", (await anna.page.locator("#loop-list [data-grade=good]").count()) === 3);
    await anna.screenshot("ice-loop");
    check(`data goes round: ${await anna.page.textContent("#verdict")}`, true);
    await typed(anna);
  },
};
