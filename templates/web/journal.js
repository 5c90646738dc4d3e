// What happened in a call, for people who want to see it: signaling, descriptions, candidates. Bounded.

const MAX_EVENTS = 400;
const MAX_CANDIDATES = 200;
const MAX_DESCRIPTIONS = 40;

/** Events: change, with what was added to (events, candidates, errors, descriptions). */
export class Journal extends EventTarget {
  events = [];
  candidates = [];
  errors = [];
  descriptions = [];
  #now;
  #start;

  /** `now()` gives milliseconds. */
  constructor(now) {
    super();
    this.#now = now;
    this.#start = now();
  }

  #add(list, entry, bound) {
    this[list].push({ at: Math.round(this.#now() - this.#start), ...entry });
    if (this[list].length > bound) {
      this[list].shift();
    }
    this.dispatchEvent(new CustomEvent("change", { detail: list }));
  }

  /** `way` is "in", "out" or "own" (something that the browser did). */
  event(way, name, detail = "") {
    this.#add("events", { way, name, detail: String(detail).slice(0, 4000) }, MAX_EVENTS);
  }

  candidate(side, line, more = {}) {
    this.#add("candidates", { side, line, ...more }, MAX_CANDIDATES);
  }

  error({ url, errorCode, errorText, address, port }) {
    this.#add("errors", { url, errorCode, errorText, address, port }, MAX_CANDIDATES);
  }

  /** `side` is "own" or "other". */
  description(side, type, sdp) {
    if (sdp) {
      this.#add("descriptions", { side, type, sdp }, MAX_DESCRIPTIONS);
    }
  }

  /** The last two descriptions of a side, newest first. */
  lastTwo(side) {
    return this.descriptions.filter((one) => one.side === side).slice(-2).reverse();
  }
}
