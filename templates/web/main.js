// The call page: joins what people see to the call, the media and the figures.
//
// For tests and the curious: document.documentElement.dataset.state is the state of the page, and window.rtcctl has
// the connection, the chat, the files, the journal and some times in milliseconds since the page was opened.

import { Call } from "./call.js";
import { Chat } from "./chat.js";
import { followLinks, knownKey, roomIn, takeKey } from "./access.js";
import { Journal } from "./journal.js";
import { askForKey } from "./keyform.js";
import { Lobby, suggestion } from "./lobby.js";
import { Media } from "./media.js";
import { route } from "./route.js";
import { element, languageListeners, notice, number, remember, remembered, say, startShell, text } from "./shell.js";
import { WAYS } from "./servers.js";
import { Signaling } from "./signaling.js";
import { clearOld, openSink } from "./sinks.js";
import { Stage, copyLink, openSide } from "./stage.js";
import { History, grade, selectedPair } from "./stats.js";
import { Transfers } from "./transfer.js";

/** Milliseconds between two readings of the figures. */
const MEASURED_EVERY = 1000;
/** What ends a call, and what can be done about it on this page. */
const ENDS = { full: "tryAgain", kicked: "joinAgain", tooMany: "tryAgain", roomTooLong: null, roomRefused: null };
/** What only another key mends. */
const KEY_PROBLEMS = ["keyMissing", "keyEnded", "keyWrong", "keyLimited"];
/** Problems that pass by themselves. */
const PASSING = ["signalingLost", "serverRestarting", "serverFull", "bothLost", "mediaLost", "otherLeft", "unavailable"];

const query = new URLSearchParams(location.search);
const now = () => performance.now();
const media = new Media();
const times = { opened: 0 };
let [call, journal, transfers, history, learn, lastReport] = [null, new Journal(now), null, new History(), null, null];
let [lobby, stage, chat, signaling] = [];
/** What was wrong with the key in the address. */
let linkProblem = null;

globalThis.rtcctl = {
  times,
  get state() {
    return document.documentElement.dataset.state;
  },
  get peer() {
    return call?.peer ?? null;
  },
  get chat() {
    return call?.chat ?? [];
  },
  get other() {
    return call?.other ?? null;
  },
  get files() {
    return transfers?.items ?? [];
  },
  get journal() {
    return journal;
  },
};

function show(state) {
  document.documentElement.dataset.state = state;
  const inCall = ["joining", "waiting", "connecting", "connected"].includes(state);
  element("lobby").hidden = inCall;
  element("call").hidden = !inCall;
  element("waiting").hidden = state === "connected";
  element("invitation").hidden = state !== "waiting";
  if (inCall) {
    say(element("status"), state);
    lobby.close();
  } else {
    lobby.reopen();
  }
  if (state !== "connected") {
    stage.badge(null);
    stage.clear();
  }
  if (["waiting", "connecting"].includes(state)) {
    times.joined ??= now();
  }
}

/** The address of the room, with the key in it where it is for somebody else. */
function link(key = null) {
  const url = new URL("/", location.href);
  url.searchParams.set("room", element("room").value.trim());
  url.hash = key ? new URLSearchParams({ key }).toString() : "";
  return url.href;
}

const invitation = () => link(knownKey());

function join() {
  const room = element("room").value.trim();
  if (!room || call) {
    return;
  }
  remember("room", room);
  history = new History();
  journal = new Journal(now);
  transfers = new Transfers(openSink, now);
  window.history.replaceState(null, "", link());
  element("link").textContent = invitation();
  document.title = `${room} · rtcctl`;
  element("call-title").textContent = room;
  notice(null);
  times.join = now();
  call = new Call({ room, signaling, media, journal, transfers, way: element("way").value });
  chat.start(call, transfers);
  show("joining");
  const current = call;
  const on = (event, act) => call.addEventListener(event, ({ detail }) => call === current && act(detail));
  on("state", ({ state, why }) => {
    if (state === "left" || state in ENDS || KEY_PROBLEMS.includes(state)) {
      ended(state, why);
    } else {
      show(state);
    }
  });
  on("problem", ({ key, detail }) => notice(key, { detail, mood: PASSING.includes(key) ? "info" : "warn" }));
  on("track", (track) => stage.play(track, lobby.speaker));
  on("status", () => stage.showOther(call.other));
  learn?.start({ call, journal, history });
}

function ended(state, why) {
  call = null;
  show(state === "left" ? "lobby" : state);
  document.title = "rtcctl";
  if (KEY_PROBLEMS.includes(state)) {
    refused(state, true);
  } else if (state === "left") {
    notice(null);
  } else {
    notice(state, { detail: why, act: ENDS[state] && { key: ENDS[state], run: join } });
  }
}

/** Asks for a key, and goes on with what needed it. */
function refused(problem, wasJoining) {
  const words = linkProblem ?? problem;
  linkProblem = null;
  notice(null);
  show(words);
  element("form").hidden = true;
  askForKey(words, (typed) => {
    element("room").value = roomIn(typed) ?? element("room").value;
    element("form").hidden = false;
    show("lobby");
    signaling.open();
    if (wasJoining) {
      join();
    }
  });
}

async function measure() {
  const peer = call?.peer;
  if (!peer || call.state !== "connected") {
    return;
  }
  lastReport = await peer.getStats();
  const fresh = history.read(lastReport, now());
  const way = route(selectedPair(lastReport));
  if (fresh && way && call?.state === "connected") {
    const path = text({ host: "viaHost", nat: "viaNat", relay: "viaRelay" }[way.kind]);
    const { isInterrupted } = call;
    // The last round trip was one of better times.
    const delay = fresh.roundTrip === null || isInterrupted ? "" : ` · ${number(fresh.roundTrip)} ms`;
    stage.badge(path + delay, isInterrupted ? 1 : grade(fresh));
  }
  learn?.update(lastReport, way);
}

/** The panel for the curious comes when it is asked for: most calls never need it. */
async function openPanel() {
  if (openSide("panel") && !learn) {
    const { Learn } = await import("./learn.js");
    learn = new Learn(element("learn"));
    if (call) {
      learn.start({ call, journal, history });
      measure();
    }
  }
}

function openChat() {
  if (openSide("chat")) {
    chat.read();
    element("chat-text").focus();
  }
}

function listen() {
  const click = (id, act) => element(id).addEventListener("click", act);
  element("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (element("screen-instead").checked && !media.isSharing) {
      const problem = await media.shareScreen();
      if (problem) {
        return notice(problem);
      }
    }
    join();
  });
  click("chat-toggle", openChat);
  click("chat-close", openChat);
  click("panel-toggle", openPanel);
  click("panel-close", openPanel);
  click("leave", () => call?.leave());
  click("copy", () => copyLink(invitation()));
  click("share", () => navigator.share({ url: invitation() }).catch(() => {}));
  element("share").hidden = typeof navigator.share !== "function";
  for (const id of ["at-once", "keys"]) {
    element(id).addEventListener("change", () => remember(id, element(id).checked ? "1" : "0"));
  }
  media.addEventListener("problem", ({ detail }) => lobby.tell(detail));
  // Who is in a call stays in it.
  followLinks(() => (call ? takeKey() : location.reload()));
  addEventListener("pagehide", () => call?.leave());
  languageListeners.add(() => learn?.translate());
  setInterval(measure, MEASURED_EVERY);
}

async function start() {
  [lobby, stage, chat] = [new Lobby(media), new Stage(media), new Chat()];
  listen();
  startShell();
  element("room").value = query.get("room") ?? remembered("room") ?? suggestion();
  element("at-once").checked = remembered("at-once") === "1";
  element("keys").checked = remembered("keys") !== "0";
  const way = query.get("relay") === "1" ? "relay" : query.get("way");
  element("way").value = WAYS.includes(way) ? way : "any";
  element("screen-instead").disabled = !media.canShare;
  show("lobby");
  linkProblem = (await takeKey()) ?? null;
  signaling = new Signaling();
  signaling.addEventListener("refused", ({ detail: { key } }) => call ?? (KEY_PROBLEMS.includes(key) && refused(key, false)));
  const isAtOnce = query.get("join") === "1" || (query.has("room") && element("at-once").checked);
  // Joining needs no camera: its tracks are added when they come.
  if (isAtOnce) {
    join();
  }
  await lobby.open();
  clearOld();
}

start();
