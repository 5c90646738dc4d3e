// The call page: joins what people see to the call, the media and the figures.
//
// For tests and the curious: document.documentElement.dataset.state is the state of the page, and window.rtcctl has
// the connection and the chat.

import { Call } from "/rtcctl/call.js";
import { Media } from "/rtcctl/media.js";
import { element, languageListeners, remember, remembered, say, startShell, text } from "/rtcctl/shell.js";
import { Meter } from "/rtcctl/stats.js";

const media = new Media();
const query = new URLSearchParams(location.search);
let call = null;
let meter = new Meter();
let noticeKey = null;
let noticeDetail = "";

globalThis.rtcctl = {
  get state() {
    return document.documentElement.dataset.state;
  },
  get peer() {
    return call?.peer ?? null;
  },
  get chat() {
    return call?.chat ?? [];
  },
};

function notice(key, detail = "") {
  [noticeKey, noticeDetail] = [key, detail];
  element("notice").hidden = !key;
  element("notice").textContent = key ? text(key) + detail : "";
}

function show(state) {
  document.documentElement.dataset.state = state;
  const inCall = ["joining", "waiting", "connecting", "connected"].includes(state);
  element("lobby").hidden = inCall;
  element("call").hidden = !inCall;
  element("waiting").hidden = state === "connected";
  element("invitation").hidden = state !== "waiting";
  if (inCall) {
    say(element("status"), state);
  }
  if (state !== "connected") {
    element("badge").hidden = true;
    element("remote").srcObject = null;
  }
}

function link() {
  const url = new URL("/", location.href);
  url.searchParams.set("room", element("room").value.trim());
  return url.href;
}

/** A name that is easy to say and hard to guess by chance. */
function suggestion() {
  const letters = "abcdefghjkmnpqrstuvwxyz23456789";
  const random = crypto.getRandomValues(new Uint8Array(9));
  const name = [...random].map((byte) => letters[byte % letters.length]).join("");
  return `${name.slice(0, 3)}-${name.slice(3, 6)}-${name.slice(6)}`;
}

async function openMedia(camera, microphone) {
  const problem = await media.open(camera, microphone);
  notice(problem);
  await listDevices();
}

async function listDevices() {
  const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  for (const [id, kind, track] of [["camera", "videoinput", media.video], ["microphone", "audioinput", media.audio]]) {
    const options = devices
      .filter((device) => device.kind === kind && device.deviceId)
      .map((device, index) => new Option(device.label || `${text(id)} ${index + 1}`, device.deviceId));
    const none = new Option(text("none"), "");
    none.dataset.text = "none";
    element(id).replaceChildren(...options, none);
    element(id).value = track?.getSettings().deviceId ?? "";
    if (element(id).selectedIndex < 0) {
      element(id).selectedIndex = 0;
    }
  }
}

function mediaChanged() {
  const stream = media.video ? media.stream : null;
  for (const id of ["preview", "local"]) {
    if (element(id).srcObject !== stream) {
      element(id).srcObject = stream;
    }
    element(id).classList.toggle("mirrored", !media.isSharing);
    element(id).hidden = id === "local" && !media.video;
  }
  element("preview-hint").hidden = Boolean(media.video);
  press("mute", media.audio?.enabled === false, "unmute", "mute");
  press("hide", media.video?.enabled === false, "show", "hide");
  press("screen", media.isSharing, "screenStop", "screen");
  element("mute").disabled = !media.audio;
  element("hide").disabled = !media.video;
  element("screen").disabled = !media.canShare;
}

function press(id, isOn, whenOn, whenOff) {
  element(id).setAttribute("aria-pressed", String(isOn));
  say(element(id), isOn ? whenOn : whenOff);
}

function join() {
  const room = element("room").value.trim();
  if (!room) {
    return;
  }
  remember("room", room);
  history.replaceState(null, "", link());
  element("link").textContent = link();
  element("chat-log").replaceChildren();
  notice(null);
  meter = new Meter();
  call = new Call(room, media, element("relay-only").checked);
  show("joining");
  const current = call;
  const on = (event, act) => call.addEventListener(event, ({ detail }) => call === current && act(detail));
  on("state", (state) => {
    show(state === "left" ? "lobby" : state);
    if (state === "full") {
      call = null;
      notice("full");
    }
  });
  on("problem", ({ key, detail }) => notice(key, detail));
  on("track", (track) => {
    const remote = element("remote");
    const tracks = (remote.srcObject?.getTracks() ?? []).filter((old) => old.kind !== track.kind);
    remote.srcObject = new MediaStream([...tracks, track]);
  });
  on("chat", ({ from, text: words }) => {
    const line = document.createElement("li");
    line.className = from;
    const name = document.createElement("b");
    say(name, from);
    line.append(name, ` ${words}`);
    element("chat-log").append(line);
    line.scrollIntoView({ block: "nearest" });
  });
  on("description", () => {
    element("own-sdp").textContent = call.peer?.localDescription?.sdp ?? "";
    element("other-sdp").textContent = call.peer?.remoteDescription?.sdp ?? "";
  });
}

function leave() {
  call?.leave();
  call = null;
  show("lobby");
  notice(null);
}

async function measure() {
  if (!call?.peer || call.state !== "connected") {
    return;
  }
  const seen = meter.read(await call.peer.getStats());
  const kinds = seen.kinds ?? [];
  const path = kinds.includes("relay") ? "viaRelay" : kinds.every((kind) => kind === "host") ? "viaHost" : "viaSrflx";
  const milliseconds = seen.roundTrip === undefined ? "–" : `${Math.round(seen.roundTrip * 1000)} ms`;
  const facts = [
    ["factPath", `${text(path)} (${kinds.join(" / ")}, ${seen.protocol ?? "?"})`],
    ["factRoundTrip", milliseconds],
    ["factUp", `${Math.round(seen.up)} kbit/s`],
    ["factDown", `${Math.round(seen.down)} kbit/s`],
    ["factLoss", `${seen.loss.toFixed(1)} %`],
    ["factPicture", seen.picture ? `${seen.picture}, ${seen.codec ?? ""}` : "–"],
  ];
  element("facts").replaceChildren(
    ...facts.flatMap(([key, value]) => {
      const [name, words] = [document.createElement("dt"), document.createElement("dd")];
      name.textContent = text(key);
      words.textContent = value;
      return [name, words];
    }),
  );
  element("badge").textContent = `${text(path)} · ${milliseconds}`;
  element("badge").hidden = false;
  if (!element("panel").hidden) {
    meter.draw(element("graph"));
  }
}

function listen() {
  const click = (id, act) => element(id).addEventListener("click", act);
  element("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (element("screen-instead").checked && !media.isSharing) {
      notice(await media.shareScreen());
    }
    join();
  });
  for (const id of ["camera", "microphone"]) {
    element(id).addEventListener("change", () => openMedia(element("camera").value, element("microphone").value));
  }
  click("mute", () => {
    media.audio.enabled = !media.audio.enabled;
    mediaChanged();
  });
  click("hide", () => {
    media.video.enabled = !media.video.enabled;
    mediaChanged();
  });
  click("screen", async () => (media.isSharing ? media.stopSharing() : notice(await media.shareScreen())));
  click("panel-toggle", () => {
    element("panel").hidden = !element("panel").hidden;
    element("panel-toggle").setAttribute("aria-pressed", String(!element("panel").hidden));
  });
  click("leave", leave);
  click("copy", async () => {
    await navigator.clipboard?.writeText(link()).catch(() => getSelection().selectAllChildren(element("link")));
    say(element("copy"), "copied");
    setTimeout(() => say(element("copy"), "copy"), 2000);
  });
  click("share", () => navigator.share({ url: link() }).catch(() => {}));
  element("share").hidden = typeof navigator.share !== "function";
  element("chat-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const words = element("chat-text").value.trim();
    if (words && call?.say(words)) {
      element("chat-text").value = "";
    }
  });
  element("bandwidth").addEventListener("change", () => call?.limit(Number(element("bandwidth").value)));
  addEventListener("pagehide", () => call?.leave());
  media.addEventListener("change", mediaChanged);
  navigator.mediaDevices?.addEventListener?.("devicechange", listDevices);
  languageListeners.add(() => {
    notice(noticeKey, noticeDetail);
    mediaChanged();
  });
  setInterval(measure, 1000);
}

async function start() {
  listen();
  startShell();
  element("room").value = query.get("room") ?? remembered("room") ?? suggestion();
  element("relay-only").checked = query.get("relay") === "1";
  show("lobby");
  mediaChanged();
  if (!isSecureContext) {
    notice("insecure");
  } else {
    await openMedia(undefined, undefined);
  }
  if (query.get("join") === "1") {
    join();
  }
}

start();
