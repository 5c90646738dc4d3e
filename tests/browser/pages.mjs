// The pages by themselves: languages, the ICE test, whether everybody can use them.

import { check, person, url } from "./cast.mjs";

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
  },
};
