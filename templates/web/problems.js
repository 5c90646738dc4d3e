// What went wrong, as a key of the strings: there each has what happened and what to do about it. Decides only.

/** Why a camera, microphone or screen cannot be used. `error` is what getUserMedia threw. */
export function mediaProblem(error, isSecure = true) {
  if (!isSecure) {
    return "insecure";
  }
  switch (error?.name) {
    case "NotAllowedError":
    case "PermissionDeniedError":
      return /system/i.test(error.message ?? "") ? "deniedBySystem" : "denied";
    case "SecurityError":
      return "denied";
    case "NotReadableError":
    case "TrackStartError":
    case "AbortError":
      return "busy";
    case "OverconstrainedError":
      return "gone";
    default:
      return "missing";
  }
}

/** What an icecandidateerror means. `code` is a STUN error, or 701 if the server was not reached at all. */
export function iceProblem({ errorCode: code, errorText: words = "", url = "" }) {
  if (code === 701) {
    if (/lookup|resolve|DNS/i.test(words)) {
      return "ice701name";
    }
    if (/^(turns|stuns):/i.test(url)) {
      return "ice701tls";
    }
    return /transport=tcp/i.test(url) ? "ice701tcp" : "ice701udp";
  }
  const known = { 300: "ice300", 400: "ice400", 401: "ice401", 403: "ice403", 437: "ice437", 438: "ice438", 441: "ice401", 442: "ice442", 486: "ice486", 508: "ice508" };
  return known[code] ?? (code >= 700 ? "ice701udp" : "iceOther");
}

/** Why the server lets nobody in by what was shown: its word for it, or its sentence. Null if it is about something else. */
export function refusalProblem(words) {
  const known = [
    [/^key_missing$|a key is needed/, "keyMissing"],
    [/^session_ended$|session has ended/, "keyEnded"],
    [/^key_wrong$|key is wrong/, "keyWrong"],
    [/^too_many_tries$|too many tries/, "keyLimited"],
  ];
  return known.find(([pattern]) => pattern.test(words ?? ""))?.[1] ?? null;
}

/** What is said of the connection to the server where the call itself is interrupted as well: that it goes on is not true. */
export const withCall = (problem, isInterrupted) => (isInterrupted && ["signalingLost", "serverRestarting"].includes(problem) ? "bothLost" : problem);

/** What the answer to a `join` that was refused means; null if it was not refused. */
export function joinProblem(answer) {
  if (!answer || answer.ok) {
    return null;
  }
  const words = String(answer.error ?? "");
  if (words === "full") {
    return "full";
  }
  if (/more than \d+ bytes/.test(words)) {
    return "roomTooLong";
  }
  return /too many/i.test(words) ? "tooMany" : "roomRefused";
}
