// The key of an invite link: exchanged for a cookie, so that pages that know nothing of keys come in by it, too.

const KEPT = "rtcctl.key";

/** The key by which this browser came in, for the links that it gives to others; null where none is needed. */
export function knownKey() {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null;
  }
}

function keep(key) {
  try {
    key ? localStorage.setItem(KEPT, key) : localStorage.removeItem(KEPT);
  } catch {
    // The cookie is enough for this browser.
  }
}

/** Without percent signs; null if they make no sense. */
function decoded(words) {
  try {
    return decodeURIComponent(words);
  } catch {
    return null;
  }
}

/** The key in what somebody has typed: a whole link, its end, or the key alone. Null if there is none. */
export function keyIn(typed) {
  const words = typed.trim();
  const end = /[#?&]key=([^&#\s]+)/.exec(words) ?? /^key=([^&#\s]+)/.exec(words);
  return end ? decoded(end[1]) : /^[\w.~-]+$/.test(words) ? words : null;
}

/** The room in a link; null if there is none. */
export function roomIn(typed) {
  const room = /[?&]room=([^&#\s]+)/.exec(typed);
  return room && decoded(room[1].replaceAll("+", " "));
}

/** Shows a key to the server. Gives null if it is right, else what is wrong as a key of the strings. */
export async function giveKey(key) {
  let answer = null;
  try {
    answer = await fetch("/api/session", { method: "POST", headers: { authorization: `Bearer ${key}` }, cache: "no-store" });
  } catch {
    return "unavailable";
  }
  if ([401, 403].includes(answer.status)) {
    if (knownKey() === key) {
      keep(null);
    }
    return "keyWrong";
  }
  if (answer.status === 429) {
    return "keyLimited";
  }
  if (!answer.ok) {
    return "unavailable";
  }
  keep(key);
  return null;
}

/** Follows an invite link that is opened in this very tab: the browser loads nothing where the fragment alone is another. */
export function followLinks(follow = () => location.reload()) {
  addEventListener("hashchange", () => /[#&](key|code)=/.test(location.hash) && follow());
}

/**
 * Takes the key out of the address, where a fragment `#key=..` has one, and shows it to the server.
 * Gives undefined if there is none, else what `giveKey` gives.
 */
export async function takeKey() {
  const key = /[#&]key=/.test(location.hash) ? keyIn(location.hash) : null;
  if (!key) {
    return undefined;
  }
  const rest = location.hash.slice(1).split("&").filter((part) => !part.startsWith("key=")).join("&");
  history.replaceState(null, "", location.pathname + location.search + (rest && `#${rest}`));
  return giveKey(key);
}
