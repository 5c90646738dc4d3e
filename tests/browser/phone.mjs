// `rtcctl phone`: a terminal that shows a code, and phones that open the page by it.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as after } from "node:timers/promises";

import { check, person, url } from "./cast.mjs";
import { SIZES, overflow, violations } from "./shots.mjs";

/** The command in a terminal, as what it prints: one document a line. */
class Terminal {
  events = [];
  #ended;
  #lines;
  #process;

  static async open(...words) {
    const terminal = new Terminal();
    terminal.#process = spawn("ip", [...JSON.parse(process.env.RTCCTL), "phone", "--json", ...words], { stdio: ["ignore", "pipe", "inherit"] });
    terminal.#ended = once(terminal.#process, "exit");
    terminal.#lines = createInterface(terminal.#process.stdout);
    terminal.#lines.on("line", (line) => terminal.events.push(JSON.parse(line)));
    const begun = await terminal.sees((event) => event.event === "begun");
    terminal.url = begun.url;
    return terminal;
  }

  async sees(isIt) {
    for (;;) {
      const found = this.events.find(isIt);
      if (found) {
        return found;
      }
      await Promise.race([once(this.#lines, "line"), this.#ended.then(() => Promise.reject(new Error(`the command ended first: ${JSON.stringify(this.events)}`)))]);
    }
  }

  /** How a step ended. */
  step(step) {
    return this.events.findLast((event) => event.event === "step" && event.step === step);
  }

  interrupt() {
    this.#process.kill("SIGINT");
  }

  async ends() {
    const [code] = await this.#ended;
    return code;
  }
}

const phoneOf = (number, wishes = {}) => person(number, "red", { viewport: SIZES.phone, ...wishes });
const state = (one, wanted) => one.page.waitForFunction((wanted) => document.documentElement.dataset.state === wanted, wanted);

async function isFit(one, what) {
  await one.screenshot(what);
  const faults = [...(await overflow(one.page)), ...(await violations(one.page))];
  check(`${what} fits and is accessible: ${faults}`, faults.length === 0);
}

/** Opens the code on a phone; gives the terminal, the exit code and the verdict that the page shows. */
async function proves(one, words = [], open = (terminal) => one.page.goto(terminal.url)) {
  const terminal = await Terminal.open(...words);
  await open(terminal);
  await state(one, "done");
  const code = await terminal.ends();
  const verdict = terminal.events.at(-1);
  check(`the last word is a verdict: ${JSON.stringify(verdict)}`, verdict.event === "verdict" && verdict.schema_version === 1);
  check("the page says the same", (await one.page.getAttribute("html", "data-grade")) === verdict.grade);
  return { terminal, code, verdict };
}

export const phone = {
  async phone() {
    const anna = await phoneOf(0, { locale: "zh-CN", scheme: "dark" });
    const bo = await phoneOf(1);
    const { terminal, code, verdict } = await proves(anna, [], async (terminal) => {
      await anna.page.goto(terminal.url);
      await terminal.sees((event) => event.event === "opened");
      check("the code is not in the address any more", !anna.page.url().includes("code"));
      await bo.page.goto(terminal.url);
      await bo.notices("phoneCodeUsed");
      await terminal.sees((event) => event.event === "refused");
      await terminal.sees(({ step, grade }) => step === "call" && grade === "running");
      await anna.screenshot("phone-call");
    });
    bo.forgives(/409/);
    check("another browser with the same code is refused and told of", true);
    check(`calls work from it: ${JSON.stringify(verdict)}`, verdict.grade === "good" && code === 0);
    for (const step of ["page", "trust", "camera", "host", "srflx", "udp", "tcp", "tls", "call"]) {
      check(`${step}: ${JSON.stringify(terminal.step(step))}`, terminal.step(step).grade === "good");
    }
    const { figures, words } = terminal.step("call");
    check("the call has pictures, by UDP", figures.frames > 50 && figures.width === 320 && words === "UDP" && figures.rtt_ms < 1000);
    await isFit(anna, "phone-good-zh");
    check("it is told in Chinese", (await anna.page.textContent("#verdict")).includes("可以通话"));

    await bo.page.goto(`${url}/phone`);
    await bo.notices("phoneNoCode");
    await isFit(bo, "phone-no-code");
    await bo.page.goto(`${url}/trust`);
    await bo.page.goto(terminal.url);
    await bo.notices("phoneCodeUnknown");
    bo.forgives(/401/);
    check("the code ended with the command", true);
  },

  // Somebody says no, opens the page anew, and somebody gives up.
  async refusals() {
    const anna = await phoneOf(0);
    await anna.fails("NotAllowedError", "Permission denied");
    const { terminal, code, verdict } = await proves(anna, [], async (terminal) => {
      await anna.page.goto(terminal.url);
      await terminal.sees(({ step, grade }) => step === "call" && grade === "running");
      await anna.page.reload();
    });
    check("a page that is opened anew goes on", terminal.events.filter(({ event }) => event === "opened").length === 1);
    check(`without a camera calls are limited: ${JSON.stringify(verdict)}`, code === 1 && verdict.grade === "fair" && verdict.hints[0] === "allow-camera");
    check("the call goes by a drawn picture", terminal.step("call").grade === "good");
    await isFit(anna, "phone-denied");

    const given = await Terminal.open("--lang", "zh");
    given.interrupt();
    check("Ctrl-C ends it", (await given.ends()) === 130);
    await anna.page.goto(`${url}/trust`);
    await anna.page.goto(given.url);
    await anna.notices("phoneCodeUnknown");
    anna.forgives(/401/);
    check("and its code, and the language is in the address", (await anna.page.getAttribute("html", "lang")) === "zh-CN");
  },

  // Who does not trust the authority goes on after the browser's warning.
  async warned() {
    const anna = await phoneOf(0, { trusts: false });
    const { terminal, verdict } = await proves(anna, [], async (terminal) => {
      await anna.page.goto(terminal.url).catch(() => {});
      // What Chromium's warning takes for "go on", once it is there.
      while (!terminal.events.some(({ event }) => event === "opened")) {
        await anna.page.keyboard.type("thisisunsafe").catch(() => {});
        await after(100);
      }
    });
    anna.complaints = anna.complaints.filter((complaint) => !/certificate|ERR_CERT|SSL/i.test(complaint));
    check(`the warning is known: ${JSON.stringify(terminal.step("trust"))}`, terminal.step("trust").note === "warned");
    check("the relay by TLS is not had", terminal.step("tls").note === "no-tls");
    check(`calls work all the same: ${JSON.stringify(verdict)}`, verdict.grade === "good" && verdict.hints.includes("trust-for-tls"));
    await isFit(anna, "phone-warned");
  },

  // Nothing but TCP gets through; see tests/browser.rs.
  async blocked() {
    const anna = await phoneOf(0, { scheme: "dark" });
    const { terminal, code, verdict } = await proves(anna);
    check(`UDP is blocked: ${JSON.stringify(terminal.step("udp"))}`, terminal.step("udp").grade === "bad" && terminal.step("srflx").note === "silent");
    check("the call goes by TCP", terminal.step("call").words === "TCP");
    check(`so calls are limited: ${JSON.stringify(verdict)}`, code === 1 && verdict.grade === "fair" && verdict.hints.includes("open-udp"));
    await isFit(anna, "phone-blocked");
  },
};
