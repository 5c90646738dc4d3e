// The key of an invite link: exchanged for a cookie, so that it is in no request and no log after that.

const KEPT = "rtcctl.key";

/** The key by which this tab came in, for the links that it gives to others; null where none is needed. */
export function knownKey() {
  try {
    return sessionStorage.getItem(KEPT);
  } catch {
    return null;
  }
}

/**
 * Takes the key out of the address, where a fragment `#key=..` has one, and shows it to the server.
 * Gives "keyWrong" if the server does not take it, null otherwise.
 */
export async function takeKey() {
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  if (!key) {
    return null;
  }
  history.replaceState(null, "", location.pathname + location.search);
  try {
    const answer = await fetch("/api/session", { method: "POST", headers: { authorization: `Bearer ${key}` }, cache: "no-store" });
    if ([401, 403].includes(answer.status)) {
      return "keyWrong";
    }
    sessionStorage.setItem(KEPT, key);
  } catch {
    // Whether the key counts is seen when the room is joined.
  }
  return null;
}
