// The way to the terminal that showed the code: the code is exchanged for a key, which every report carries.

const KEPT = "rtcctl.phone";
/** How often a report is sent again that did not arrive, and the milliseconds in between. */
const TRIES = 5;
const PAUSE = 1500;

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT));
  } catch {
    return null;
  }
}

const post = (path, secret, body) =>
  fetch(path, { method: "POST", headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" }, body: JSON.stringify(body), cache: "no-store" });

export class Link {
  #key;
  /** One after the other: the terminal shows them as they come. */
  #queue = Promise.resolve();
  /** What to try: {urls, username, credential} each. */
  servers;

  constructor({ key, iceServers }) {
    [this.#key, this.servers] = [key, iceServers];
  }

  /**
   * Exchanges the code in the address, or goes on with the key of this tab, which was opened anew. Gives {link}, or
   * {problem}: a key of the strings.
   */
  static async open() {
    const code = new URLSearchParams(location.hash.slice(1)).get("code");
    if (!code) {
      const known = kept();
      return known ? { link: new Link(known) } : { problem: "phoneNoCode" };
    }
    // Not for whoever looks over a shoulder, nor for the history.
    history.replaceState(null, "", location.pathname + location.search);
    let answer = null;
    try {
      answer = await post("/api/phone", code, {});
    } catch {
      return { problem: "unavailable" };
    }
    if (!answer.ok) {
      // Opened once more by the browser that has used it: a page that was restored.
      const known = answer.status === 409 && kept();
      return known ? { link: new Link(known) } : { problem: { 401: "phoneCodeUnknown", 409: "phoneCodeUsed" }[answer.status] ?? "unavailable" };
    }
    const known = await answer.json();
    try {
      sessionStorage.setItem(KEPT, JSON.stringify(known));
    } catch {
      // A reload of the page needs another code, then.
    }
    return { link: new Link(known) };
  }

  /** Says how a step stands. Gives the verdict once there is one; "over" where nobody listens any more, else null. */
  say(report) {
    const said = this.#queue.then(() => this.#send(report));
    this.#queue = said.catch(() => {});
    return said;
  }

  async #send(report) {
    for (let tries = 1; tries <= TRIES; tries += 1) {
      const answer = await post("/api/phone/report", this.#key, report).catch(() => null);
      if (answer?.ok) {
        return (await answer.json()).verdict;
      }
      if (answer && answer.status < 500) {
        return "over";
      }
      await pause(PAUSE);
    }
    return "over";
  }
}
