// What a gathering by one URL says, and what all of them say together. Decides only.

import { transportOf } from "./servers.js";
import { iceProblem } from "./problems.js";

/** What a relay says to a wrong user name or password. */
const DENIED = [401, 438, 441];

/**
 * Judges one URL by what `gather` gives: its candidates [{type}], errors [{errorCode, errorText, url}], and whether the
 * browser refused to ask.
 * Gives {grade: "good" | "fair" | "bad", key, problem}: keys of the strings, the problem null where there is none.
 */
export function judge({ url, candidates, errors, isRefused, lacksPassword }) {
  const has = (type) => candidates.some((candidate) => candidate.type === type);
  const kind = transportOf(url);
  const problem = errors.length > 0 ? iceProblem(errors[0]) : null;
  if (kind === null || isRefused) {
    return { grade: "bad", key: kind !== null && lacksPassword ? "urlNoPassword" : "urlMalformed", problem: null };
  }
  if (kind === "stun") {
    if (has("srflx")) {
      return { grade: "good", key: "stunWorks", problem: null };
    }
    if (problem) {
      return { grade: "bad", key: "stunFails", problem };
    }
    // An address that is the own one is not told again.
    return has("host") ? { grade: "fair", key: "stunSame", problem: null } : { grade: "bad", key: "stunFails", problem };
  }
  if (has("relay")) {
    return { grade: "good", key: { udp: "turnUdpWorks", tcp: "turnTcpWorks", tls: "turnTlsWorks" }[kind], problem: null };
  }
  return { grade: "bad", key: { udp: "turnUdpFails", tcp: "turnTcpFails", tls: "turnTlsFails" }[kind], problem };
}

/** What calls from this network can do, by all that was found: {grade, key}. */
export function overall(results) {
  const candidates = results.flatMap((result) => result.candidates);
  const has = (type) => candidates.some((candidate) => candidate.type === type);
  const relays = results.filter(({ url, candidates }) => transportOf(url) !== "stun" && candidates.some(({ type }) => type === "relay")).map(({ url }) => transportOf(url));
  if (relays.length > 0) {
    if (!relays.includes("udp")) {
      return { grade: "fair", key: "iceTurnNoUdp" };
    }
    return { grade: "good", key: has("srflx") ? "iceTurnWorks" : "iceTurnNoStun" };
  }
  const turns = results.filter(({ url }) => ["udp", "tcp", "tls"].includes(transportOf(url)));
  const grade = has("srflx") ? "fair" : "bad";
  if (turns.some(({ errors = [] }) => errors.some(({ errorCode }) => DENIED.includes(errorCode)))) {
    return { grade, key: "iceDenied" };
  }
  if (turns.length > 0 && turns.every(({ lacksPassword }) => lacksPassword)) {
    return { grade, key: "iceNoPassword" };
  }
  if (has("srflx")) {
    return { grade, key: "iceStunOnly" };
  }
  const asked = results.filter(({ isRefused }) => !isRefused);
  if (asked.length === 0) {
    return { grade, key: "iceNoUrl" };
  }
  if (candidates.length > 0) {
    return { grade, key: "iceHostOnly" };
  }
  // Who asks relays alone is told of no address of its own.
  return { grade, key: asked.some(({ url }) => transportOf(url) === "stun") ? "iceNothing" : "iceNoRelay" };
}

/** What calls of a page with itself say together, by what kept each of them from working, or null: a key of the strings. */
export function overallLoop(problems) {
  if (problems.includes(null) || problems.includes(undefined)) {
    return "loopWorks";
  }
  const tried = problems.filter((problem) => problem !== "loopNoUrl");
  return tried.length === 0 ? "iceNoUrl" : tried.every((problem) => problem === "loopBadUrl") ? "loopBadUrl" : "loopFails";
}

/** The middle one of some numbers; null of none. */
export function median(values) {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted.length ? sorted[Math.floor(sorted.length / 2)] : null;
}

/** What probes say that were sent at `sent` and came back after `trips` milliseconds: {roundTrip, loss in %}. */
export function probes(sent, trips) {
  return { roundTrip: median(trips), loss: sent > 0 ? (100 * (sent - trips.length)) / sent : 0 };
}
