// The page that a phone opens by the code of `rtcctl phone`: tries all that a call needs, step by step, and says how it
// goes to the terminal that showed the code. What it all means is judged there.
//
// For tests: document.documentElement.dataset.state is "running", "done" or "stopped", and dataset.grade the verdict's.

import { followLinks } from "./access.js";
import { eachUrl, gather } from "./gather.js";
import { icon } from "./icons.js";
import { callItself, drawnStream } from "./phone-call.js";
import { STEPS, judgeCall, judgeCamera, judgeHost, judgePage, judgeRelay, judgeSrflx, judgeTrust, running, trustByRelay } from "./phone-judge.js";
import { Link } from "./phone-link.js";
import { askForTrust } from "./phone-trust.js";
import { transportOf } from "./servers.js";
import { addWords, dress, element, languageListeners, make, notice, number, startShell, text } from "./shell.js";
import { en } from "./strings.phone.en.js";
import { zh } from "./strings.phone.zh.js";

/** Milliseconds that somebody may take to allow the camera. */
const ALLOWED_WITHIN = 90000;
const PICTURES = { good: "check", fair: "info", bad: "alert" };
const WORDS = { good: "phoneGood", fair: "phoneFair", bad: "phoneBad" };

const reports = new Map();
let [link, verdict, isOver] = [null, null, false];

/** Notes how a step stands, here and in the terminal. */
async function tell(report) {
  reports.set(report.step, report);
  draw();
  const told = await link.say(report);
  if (told === "over") {
    isOver = true;
  } else if (told) {
    verdict = told;
  }
  draw();
}

function draw() {
  const root = document.documentElement;
  const isDone = verdict !== null || isOver;
  root.dataset.state = isDone ? "done" : reports.size ? "running" : "stopped";
  root.dataset.grade = verdict?.grade ?? "";
  element("steps").hidden = reports.size === 0;
  element("steps").replaceChildren(...STEPS.map((step) => row(step, reports.get(step))));
  element("verdict").hidden = reports.size === 0;
  const grade = verdict?.grade ?? (isOver ? "bad" : "busy");
  element("verdict").dataset.grade = grade;
  const words = verdict ? WORDS[verdict.grade] : isOver ? "phoneOver" : isAsking() ? "phoneAllow" : "phoneRunning";
  element("verdict").replaceChildren(grade === "busy" ? make("i", "spinner") : icon(PICTURES[grade]), make("p", "", text(words)));
  element("hints").hidden = !verdict?.hints.length;
  element("hints").replaceChildren(...(verdict?.hints ?? []).map((hint) => make("li", "", text(`hint_${hint}`))));
  element("after").hidden = !isDone;
}

const isAsking = () => reports.get("camera")?.grade === "running";

function row(step, report) {
  const grade = !report || report.grade === "running" ? "busy" : report.grade;
  const picture = grade === "busy" ? make("i", report ? "spinner" : "spinner still") : icon(PICTURES[grade]);
  const words = make("div", "result-words", make("b", "", text(`step_${step}`)));
  const more = [report?.note && text(`phone_${report.note}`), report?.words].filter(Boolean).join(" · ");
  if (more) {
    words.append(make("span", "faint", more));
  }
  const node = make("li", "result", picture, words);
  node.dataset.grade = grade;
  node.dataset.step = step;
  const { ms, rtt_ms: trip, frames } = report?.figures ?? {};
  const figures = [frames !== undefined && text("phoneFrames", { frames: number(frames) }), trip !== undefined && `${number(trip, 1)} ms`, ms !== undefined && step !== "page" && `${number(ms)} ms`];
  const shown = figures.filter(Boolean).join(" · ");
  if (shown) {
    node.append(make("span", "ms", shown));
  }
  return node;
}

/** Asks for camera and microphone, for the camera alone where there is no microphone. Gives the stream, or null. */
async function askForCamera() {
  await tell(running("camera"));
  const ask = (wishes) => navigator.mediaDevices.getUserMedia(wishes);
  let isLate = false;
  const late = new Promise((_, fail) => setTimeout(() => {
    isLate = true;
    fail(new DOMException("", "TimeoutError"));
  }, ALLOWED_WITHIN));
  const asked = ask({ audio: true, video: true }).catch((error) => (error.name === "NotFoundError" ? ask({ video: true }) : Promise.reject(error)));
  asked.then((stream) => isLate && stream.getTracks().forEach((track) => track.stop()), () => {});
  try {
    const stream = await Promise.race([asked, late]);
    const { width, height } = stream.getVideoTracks()[0].getSettings();
    await tell(judgeCamera(null, { picture: width && height ? { width, height } : null, hasMicrophone: stream.getAudioTracks().length > 0 }));
    return stream;
  } catch (error) {
    await tell(judgeCamera(error));
    return null;
  }
}

/** Tries each server by itself. Gives the one to call by, or null. */
async function askServers(trusted) {
  for (const step of ["host", "srflx", "udp", "tcp", "tls"]) {
    tell(running(step));
  }
  const servers = eachUrl(link.servers);
  const ask = (kind) => Promise.all(servers.filter(({ urls: [url] }) => transportOf(url) === kind).map((server) => gather(server)));
  const byUdp = ask("udp");
  const tellRelay = async (step, asked) => {
    const results = await asked;
    await tell(judgeRelay(step, results));
    return results;
  };
  const stun = ask("stun").then(async (results) => {
    await tell(judgeHost(results));
    const isRelayed = (await byUdp).some(({ candidates }) => candidates.length > 0);
    await tell(judgeSrflx(results, isRelayed));
  });
  const all = await Promise.all([tellRelay("udp", byUdp), tellRelay("tcp", ask("tcp")), tellRelay("tls", ask("tls"))]);
  await stun;
  const known = await trusted;
  await tell(judgeTrust(known === "unknowable" ? trustByRelay(all[2], all[1]) : known));
  const works = all.flat().find(({ candidates }) => candidates.some(({ type }) => type === "relay"));
  return servers.find(({ urls: [url] }) => url === works?.url) ?? null;
}

async function call(server, camera) {
  await tell(running("call"));
  if (!server) {
    return tell(judgeCall({ problem: "no-connection" }));
  }
  const drawn = camera ? null : drawnStream();
  const mirror = element("mirror");
  mirror.hidden = false;
  const figures = await callItself(server, camera ?? drawn.stream, mirror);
  mirror.hidden = true;
  drawn?.end();
  return tell(judgeCall(figures));
}

async function start() {
  const opened = await Link.open();
  if (opened.problem) {
    return notice(opened.problem);
  }
  link = opened.link;
  const able = { isSecure: isSecureContext, hasPeer: typeof RTCPeerConnection === "function", hasMedia: Boolean(navigator.mediaDevices?.getUserMedia) };
  const page = judgePage(able, performance.now());
  await tell(page);
  if (page.grade === "bad") {
    return;
  }
  tell(running("trust"));
  const [camera, server] = await Promise.all([askForCamera(), askServers(askForTrust())]);
  await call(server, camera);
  camera?.getTracks().forEach((track) => track.stop());
}

addWords({ en, zh });
startShell();
dress(document);
document.title = text("phoneTitle");
languageListeners.add(() => {
  document.title = text("phoneTitle");
  draw();
});
draw();
followLinks();
start();
