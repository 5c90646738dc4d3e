// What a phone reports of each step, by what was found: {step, grade, note, words, figures}. Decides only.
//
// Steps, grades and notes are those of src/phone/report.rs; each note has its words as `phone_NOTE` in the strings.

import { iceProblem, mediaProblem } from "./problems.js";
import { transportOf } from "./servers.js";

/** In the order in which they are shown. */
export const STEPS = ["page", "trust", "camera", "host", "srflx", "udp", "tcp", "tls", "call"];

/** Packets lost, in per cent, and frames in five seconds, from which on a call is not a good one. */
const LOSSY = 5;
const FEW_FRAMES = 25;

const report = (step, grade, { note, words, figures } = {}) => ({ step, grade, ...(note && { note }), ...(words && { words: String(words).slice(0, 150) }), ...(figures && { figures }) });

export const running = (step) => report(step, "running");

/** Whether a page in this browser can call at all. */
export function judgePage({ isSecure, hasPeer, hasMedia }, ms) {
  if (!isSecure) {
    return report("page", "bad", { note: "insecure" });
  }
  return hasPeer && hasMedia ? report("page", "good", { figures: { ms } }) : report("page", "bad", { note: "old-browser" });
}

/** `trust` is "trusted", "warned" or "unknowable". */
export function judgeTrust(trust) {
  return report("trust", trust === "trusted" ? "good" : "fair", { note: trust });
}

/**
 * What the results of a relay by TLS tell of a certificate that nothing else told of: browsers do not let a user accept
 * one for TURN. `byTls` and `byTcp` are results of one port, without TLS and with it.
 */
export function trustByRelay(byTls, byTcp) {
  const works = (results) => results.some(({ candidates }) => candidates.length > 0);
  const port = (url) => /:(\d+)/.exec(url.replace(/\[.*\]/, ""))?.[1] ?? null;
  if (works(byTls)) {
    return "trusted";
  }
  const tried = byTls.map(({ url }) => port(url));
  return byTcp.some((result) => works([result]) && tried.includes(port(result.url))) ? "warned" : "unknowable";
}

/** `error` is what getUserMedia threw, or null; `picture` is {width, height}. */
export function judgeCamera(error, { picture = null, hasMicrophone = true } = {}) {
  if (!error) {
    return report("camera", "good", { note: hasMicrophone ? null : "no-microphone", figures: picture });
  }
  if (error.name === "TimeoutError") {
    return report("camera", "bad", { note: "no-answer" });
  }
  const note = { denied: "denied", deniedBySystem: "denied-by-system", busy: "busy" }[mediaProblem(error)] ?? "no-device";
  return report("camera", "bad", { note, words: error.message });
}

/** By the results of the server's STUN URLs. */
export function judgeHost(results) {
  const hosts = results.flatMap(({ candidates }) => candidates).filter(({ type }) => type === "host");
  const own = hosts.find(({ address }) => address && !/\.local$/i.test(address)) ?? hosts[0];
  // A browser that keeps its addresses to itself says a name that means nothing.
  const words = own && !/\.local$/i.test(own.address ?? "") ? own.address : null;
  return own ? report("host", "good", { words }) : report("host", "bad", { note: "no-address" });
}

/** By the same; that a relay answers by UDP says that STUN does, where it told no other address than the own one. */
export function judgeSrflx(results, isRelayedByUdp) {
  const found = results.flatMap(({ candidates }) => candidates).find(({ type }) => type === "srflx");
  if (found) {
    return report("srflx", "good", { words: found.address, figures: { ms: found.ms } });
  }
  if (isRelayedByUdp) {
    return report("srflx", "good", { note: "same-network" });
  }
  return report("srflx", "bad", noteOf(results));
}

/** By the results of all URLs of one transport. */
export function judgeRelay(step, results) {
  if (results.length === 0) {
    return report(step, "bad", { note: "no-url" });
  }
  const working = results.filter(({ candidates }) => candidates.some(({ type }) => type === "relay"));
  const [best] = working.sort((one, other) => one.ms - other.ms);
  return best ? report(step, "good", { words: hostOf(best.url), figures: { ms: best.ms } }) : report(step, "bad", noteOf(results));
}

const hostOf = (url) => url.replace(/^\w+:/, "").replace(/\?.*/, "");

function noteOf(results) {
  const [error] = results.flatMap(({ errors }) => errors);
  const isTls = results.some(({ url }) => transportOf(url) === "tls");
  if (!error) {
    return { note: isTls ? "no-tls" : "silent" };
  }
  const known = { ice701name: "name-not-found", ice701tls: "no-tls", ice701udp: "silent", ice701tcp: "silent", ice486: "full", ice508: "full" };
  const words = error.errorCode === 701 ? null : [error.errorCode, error.errorText].filter(Boolean).join(" ");
  return { note: known[iceProblem(error)] ?? "refused", words };
}

/** By the figures of the call: {frames, width, height, rtt, loss, by}, or {problem} with a note. */
export function judgeCall({ problem = null, frames, width, height, rtt, loss, by }) {
  if (problem) {
    return report("call", "bad", { note: problem });
  }
  const figures = { frames, loss, ...(width && { width, height }), ...(rtt !== null && { rtt_ms: rtt }) };
  const isLossy = loss > LOSSY || frames < FEW_FRAMES;
  return report("call", isLossy ? "fair" : "good", { note: isLossy ? "lossy" : null, words: by?.toUpperCase(), figures });
}
