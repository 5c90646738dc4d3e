// What a gathering by one URL says, and what all of them say together. Decides only.

import { transportOf } from "./servers.js";
import { iceProblem } from "./problems.js";

/**
 * Judges one URL by its candidates [{type}] and errors [{errorCode, errorText, url}].
 * Gives {grade: "good" | "fair" | "bad", key, problem}: keys of the strings, the problem null where there is none.
 */
export function judge(url, candidates, errors) {
  const has = (type) => candidates.some((candidate) => candidate.type === type);
  const kind = transportOf(url);
  const problem = errors.length > 0 ? iceProblem(errors[0]) : null;
  if (kind === null) {
    return { grade: "bad", key: "urlMalformed", problem: null };
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
  if (candidates.length === 0) {
    return { grade: "bad", key: "iceNothing" };
  }
  if (relays.length > 0) {
    if (!relays.includes("udp")) {
      return { grade: "fair", key: "iceTurnNoUdp" };
    }
    return { grade: "good", key: has("srflx") ? "iceTurnWorks" : "iceTurnNoStun" };
  }
  return has("srflx") ? { grade: "fair", key: "iceStunOnly" } : { grade: "bad", key: "iceHostOnly" };
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
