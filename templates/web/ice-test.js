// The ICE test: what this browser finds by a list of servers, and whether data goes through the relay.
//
// For tests: document.documentElement.dataset.verdict is the key of the verdict.

import { element, languageListeners, startShell, text } from "/rtcctl/shell.js";

/** Milliseconds after which the loop is given up. */
const LOOPED_WITHIN = 10000;
let peer = null;
let verdict = null;

function tell(key, detail = "") {
  verdict = key && { key, detail };
  element("verdict").hidden = !key;
  element("verdict").textContent = key ? text(key) + detail : "";
  document.documentElement.dataset.verdict = key ?? "";
}

/** The list as typed, for RTCPeerConnection. */
function servers() {
  const urls = element("urls").value.split(/\s+/).filter(Boolean);
  const [username, credential] = [element("user").value.trim(), element("password").value.trim()];
  const isTurn = (url) => /^turns?:/i.test(url);
  return urls.map((url) => (isTurn(url) ? { urls: [url], username, credential } : { urls: [url] }));
}

async function useOwn() {
  const response = await fetch("/api/ice", { cache: "no-store" });
  const { iceServers } = await response.json();
  const relay = iceServers.find((server) => server.username);
  element("urls").value = iceServers.flatMap((server) => server.urls).join("\n");
  element("user").value = relay?.username ?? "";
  element("password").value = relay?.credential ?? "";
}

function cells(values) {
  const row = document.createElement("tr");
  for (const value of values) {
    const cell = document.createElement("td");
    cell.textContent = value ?? "";
    row.append(cell);
  }
  return row;
}

/** Priority as its three parts: type preference, local preference, component. RFC 8445, section 5.1.2. */
const parts = (priority) => `${priority >>> 24} | ${(priority >>> 8) & 0xffff} | ${256 - (priority & 0xff)}`;

function report(error) {
  element("errors").hidden = false;
  const line = document.createElement("li");
  line.textContent = `${error.url ?? ""} ${error.errorCode ?? ""} ${error.errorText ?? error.message ?? ""}`.trim();
  element("errors").querySelector("ul").append(line);
}

function begin() {
  peer?.close();
  element("candidates").hidden = true;
  element("candidates").tBodies[0].replaceChildren();
  element("errors").hidden = true;
  element("errors").querySelector("ul").replaceChildren();
  tell("iceRunning");
}

async function gather(event) {
  event.preventDefault();
  begin();
  const found = new Set();
  const start = performance.now();
  try {
    peer = new RTCPeerConnection({ iceServers: servers(), iceCandidatePoolSize: 0 });
    peer.onicecandidateerror = report;
    peer.onicecandidate = ({ candidate }) => {
      if (!candidate?.candidate) {
        return;
      }
      found.add(candidate.type);
      element("candidates").hidden = false;
      const seconds = ((performance.now() - start) / 1000).toFixed(3);
      const via = [candidate.relayProtocol, candidate.url].filter(Boolean).join(" ");
      const { type, protocol, address, port, priority } = candidate;
      element("candidates").tBodies[0].append(cells([seconds, type, protocol, address, port, parts(priority), via]));
    };
    peer.onicegatheringstatechange = () => peer.iceGatheringState === "complete" && tell(judge(found));
    peer.createDataChannel("ice");
    await peer.setLocalDescription();
  } catch (error) {
    tell(null);
    report(error);
  }
}

function judge(found) {
  if (found.size === 0) {
    return "iceNothing";
  }
  if (found.has("relay")) {
    return found.has("srflx") ? "iceTurnWorks" : "iceTurnNoStun";
  }
  return found.has("srflx") ? "iceStunOnly" : "iceHostOnly";
}

/** Two connections of this page, both by the relay alone: data goes there and back. */
async function loop() {
  begin();
  const ends = [0, 1].map(() => new RTCPeerConnection({ iceServers: servers(), iceTransportPolicy: "relay" }));
  ends.forEach((end, index) => {
    end.onicecandidateerror = report;
    end.onicecandidate = ({ candidate }) => candidate && ends[1 - index].addIceCandidate(candidate).catch(report);
  });
  const close = () => ends.forEach((end) => end.close());
  const timer = setTimeout(() => {
    close();
    tell("loopFails");
  }, LOOPED_WITHIN);
  ends[1].ondatachannel = ({ channel }) => (channel.onmessage = ({ data }) => channel.send(data));
  const channel = ends[0].createDataChannel("loop");
  let sentAt = 0;
  let best = Infinity;
  let left = 5;
  const send = () => {
    sentAt = performance.now();
    channel.send("ping");
  };
  channel.onopen = send;
  channel.onmessage = () => {
    best = Math.min(best, performance.now() - sentAt);
    left -= 1;
    if (left > 0) {
      return send();
    }
    clearTimeout(timer);
    close();
    tell("loopWorks", `${best.toFixed(1)} ms`);
  };
  try {
    await ends[0].setLocalDescription();
    await ends[1].setRemoteDescription(ends[0].localDescription);
    await ends[1].setLocalDescription();
    await ends[0].setRemoteDescription(ends[1].localDescription);
  } catch (error) {
    clearTimeout(timer);
    tell(null);
    report(error);
  }
}

startShell();
languageListeners.add(() => verdict && tell(verdict.key, verdict.detail));
element("form").addEventListener("submit", gather);
element("own").addEventListener("click", () => useOwn().catch(report));
element("loop").addEventListener("click", loop);
useOwn().catch(report);
