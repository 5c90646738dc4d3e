// The ICE test: what this browser finds by each URL, in words, and what goes through the relay.
//
// For tests: document.documentElement.dataset.verdict is the key of the verdict.

import { followLinks, takeKey } from "./access.js";
import { priorityParts } from "./candidates.js";
import { eachUrl, gather } from "./gather.js";
import { icon } from "./icons.js";
import { loopback } from "./loopback.js";
import { iceProblem, refusalProblem } from "./problems.js";
import { dress, element, languageListeners, make, notice, number, say, startShell, text } from "./shell.js";
import { judge, overall, overallLoop } from "./verdicts.js";

/** URLs that are tested, and how many of them at a time: each takes a connection, of which a browser has few. */
const [MAX_URLS, AT_ONCE] = [60, 12];
const TRANSPORTS = ["udp", "tcp", "tls"];
const PICTURES = { good: "check", fair: "info", bad: "alert" };

let results = [];
let loops = [];
let state = null;

/** The list as typed, for RTCPeerConnection: one server for each URL. */
function servers() {
  const [username, credential] = [element("user").value.trim(), element("password").value.trim()];
  return eachUrl([{ urls: [...new Set(element("urls").value.split(/[\s,;]+/).filter(Boolean))], username, credential }]);
}

async function useOwn() {
  const response = await fetch("/api/ice", { cache: "no-store" });
  if (!response.ok) {
    const problem = refusalProblem((await response.json().catch(() => null))?.error) ?? "unavailable";
    return notice(problem, { act: problem.startsWith("key") ? { key: "keyEnter", run: () => location.assign("/") } : null });
  }
  const { iceServers } = await response.json();
  const relay = iceServers.find((server) => server.username);
  element("urls").value = iceServers.flatMap((server) => server.urls).join("\n");
  element("user").value = relay?.username ?? "";
  element("password").value = relay?.credential ?? "";
}

async function test() {
  [results, loops] = [[], []];
  const list = servers();
  notice(list.length > MAX_URLS ? "iceTooMany" : null);
  if (list.length === 0) {
    return enter("iceNoUrl");
  }
  enter("iceRunning");
  busy(true);
  const waiting = list.slice(0, MAX_URLS);
  const told = (result) => {
    if (!results.includes(result)) {
      results.push(result);
    }
    draw();
  };
  const ask = async () => {
    while (waiting.length > 0) {
      await gather(waiting.shift(), told);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, ask));
  busy(false);
  enter(null);
}

/** A call of this page with itself, by each transport in turn. */
async function loop() {
  loops = TRANSPORTS.map((transport) => ({ transport, step: "loopWaiting", result: null }));
  enter("loopRunning");
  busy(true);
  const list = servers();
  for (const entry of loops) {
    entry.result = await loopback(list, entry.transport, (step) => {
      entry.step = step;
      draw();
    });
    draw();
  }
  busy(false);
  enter(overallLoop(loops.map(({ result }) => result.problem)));
}

function busy(isBusy) {
  for (const id of ["gather", "loop", "own"]) {
    element(id).disabled = isBusy;
  }
}

function enter(key) {
  state = key;
  draw();
}

function verdict() {
  if (state) {
    return { grade: { loopWorks: "good", loopFails: "bad", loopBadUrl: "bad", iceNoUrl: "bad" }[state] ?? "busy", key: state };
  }
  return results.length ? overall(results) : null;
}

function draw() {
  const told = verdict();
  document.documentElement.dataset.verdict = told?.key ?? "";
  element("verdict").hidden = !told;
  if (told) {
    element("verdict").dataset.grade = told.grade;
    element("verdict").replaceChildren(told.grade === "busy" ? make("i", "spinner") : icon(PICTURES[told.grade]), make("p", "", text(told.key)));
  }
  element("results").hidden = results.length === 0;
  element("result-list").replaceChildren(...results.map(row));
  element("loops").hidden = loops.length === 0;
  element("loop-list").replaceChildren(...loops.map(loopRow));
  const candidates = results.flatMap((result) => result.candidates);
  const isNew = (candidate, at) => candidates.findIndex((other) => other.type === candidate.type && other.address === candidate.address && other.port === candidate.port) === at;
  element("found").hidden = candidates.length === 0;
  element("candidates").tBodies[0].replaceChildren(...candidates.filter((candidate, at) => candidate.type !== "host" || isNew(candidate, at)).map(cells));
  element("copy-report").hidden = state === "iceRunning" || state === "loopRunning" || (results.length === 0 && loops.length === 0);
}

function row(result) {
  const { url, isDone, ms, errors } = result;
  const told = judge(result);
  const isOpen = !isDone && told.grade !== "good";
  const words = make("div", "result-words", make("code", "", url), make("span", "", text(isOpen ? "iceRunning" : told.key)));
  if (!isOpen && told.problem) {
    words.append(make("span", "faint", `${text(told.problem)} (${[errors[0].errorCode, errors[0].errorText].filter(Boolean).join(" ")})`));
  }
  const node = make("li", "result", isOpen ? make("i", "spinner") : icon(PICTURES[told.grade]), words);
  node.dataset.grade = isOpen ? "busy" : told.grade;
  if (ms !== null) {
    node.append(make("span", "ms", `${number(ms)} ms`));
  }
  return node;
}

function loopRow({ transport, step, result }) {
  const grade = result === null ? "busy" : result.problem ? "bad" : result.loss > 5 ? "fair" : "good";
  const picture = grade === "busy" ? make("i", step === "loopWaiting" ? "spinner still" : "spinner") : icon(PICTURES[grade]);
  const words = make("div", "result-words", make("code", "", { udp: "TURN / UDP", tcp: "TURN / TCP", tls: "TURN / TLS" }[transport]));
  const node = make("li", "result", picture, words);
  node.dataset.grade = grade;
  if (result === null) {
    words.append(make("span", "faint", text(step)));
  } else if (result.problem) {
    words.append(make("span", "", text(result.problem)));
    if (result.errors[0]) {
      words.append(make("span", "faint", text(iceProblem(result.errors[0]))));
    }
  } else {
    const figure = (key, value) => make("span", "figure-pair", make("b", "", value), make("span", "faint", text(key)));
    node.append(
      make(
        "div",
        "figure-row",
        figure("loopRate", `${number(result.mbits, 1)} Mbit/s`),
        figure("factRoundTrip", `${number(result.roundTrip, 1)} ms`),
        figure("factLoss", `${number(result.loss, 1)} %`),
      ),
    );
  }
  return node;
}

function cells({ ms, type, protocol, address, port, priority, relayProtocol, url }) {
  const via = type === "host" ? "" : [relayProtocol, url].filter(Boolean).join(" ");
  const values = [`${number(ms)} ms`, type, protocol, address, port, priorityParts(priority).join(" | "), via];
  return make("tr", "", ...values.map((value) => make("td", "", String(value ?? ""))));
}

/** What somebody else can read: no password, and nothing that is not on the page. */
function words() {
  const lines = [`${text("iceTitle")}, ${location.host}, ${new Date().toISOString()}`, navigator.userAgent, ""];
  if (results.length) {
    lines.push(text(overall(results).key));
  }
  for (const result of results) {
    const { url, errors, ms } = result;
    lines.push(`- ${url}: ${text(judge(result).key)}${ms === null ? "" : ` ${Math.round(ms)} ms`}`);
    lines.push(...errors.slice(0, 3).map((error) => `    ${error.errorCode ?? ""} ${error.errorText ?? ""}`));
  }
  for (const { transport, result } of loops) {
    const figures = (one) => `${one.mbits.toFixed(1)} Mbit/s, ${one.roundTrip.toFixed(1)} ms, ${one.loss.toFixed(1)} %`;
    lines.push(`- ${transport.toUpperCase()}: ${result?.problem ? text(result.problem) : result ? figures(result) : "–"}`);
  }
  return lines.join("\n");
}

async function copyReport() {
  const report = words();
  element("report").textContent = report;
  element("report").hidden = false;
  try {
    await navigator.clipboard.writeText(report);
    say(element("copy-report-words"), "copied");
    setTimeout(() => say(element("copy-report-words"), "copyReport"), 2000);
  } catch {
    // It is on the page now, to be copied by hand.
    getSelection().selectAllChildren(element("report"));
  }
}

startShell();
dress(document);
languageListeners.add(draw);
element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  test();
});
element("own").addEventListener("click", () => useOwn().catch(() => notice("unavailable")));
element("loop").addEventListener("click", loop);
element("copy-report").addEventListener("click", copyReport);
followLinks();
takeKey().then(useOwn).catch(() => notice("unavailable"));
