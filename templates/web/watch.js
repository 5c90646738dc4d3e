// Notices that a call has gone silent long before the browser says so. Decides only.
//
// A connection whose relay or network is gone is called "disconnected" after five seconds or more. Media comes many
// times a second, though, so silence is a sign within one or two.

/** Milliseconds of silence after which ICE is restarted. */
const SILENCE = 1200;
/** Milliseconds that a restart may take before the next; each one in vain doubles it. */
const PATIENCE = 3500;
const LONGEST = 20000;
/** Packets a second below which silence is normal. */
const LIVELY = 8;

export class Watch {
  #heardAt = null;
  #packets = null;
  #rate = 0;
  #sampledAt = null;
  #triedAt = null;
  #patience = PATIENCE;

  /** Takes the count of packets received so far. Gives whether a new way should be looked for now. */
  handleSample(packets, now) {
    if (this.#packets === null || packets < this.#packets) {
      [this.#packets, this.#heardAt, this.#sampledAt, this.#rate] = [packets, now, now, 0];
      return false;
    }
    const seconds = (now - this.#sampledAt) / 1000;
    const fresh = packets - this.#packets;
    [this.#packets, this.#sampledAt] = [packets, now];
    if (fresh > 0) {
      // An average over about two seconds, so that one late packet is no rate.
      const weight = Math.min(1, seconds / 2);
      this.#rate = this.#rate * (1 - weight) + (seconds > 0 ? fresh / seconds : 0) * weight;
      [this.#heardAt, this.#triedAt, this.#patience] = [now, null, PATIENCE];
      return false;
    }
    if (this.#rate < LIVELY || now - this.#heardAt < SILENCE) {
      return false;
    }
    if (this.#triedAt !== null && now - this.#triedAt < this.#patience) {
      return false;
    }
    if (this.#triedAt !== null) {
      this.#patience = Math.min(this.#patience * 2, LONGEST);
    }
    this.#triedAt = now;
    return true;
  }

  /** The other has said that nothing may come: until it comes again, silence is normal. */
  handleQuiet() {
    this.#rate = 0;
  }

  /** A new way was agreed on: it has its time before another is looked for. */
  handleTry(now) {
    this.#triedAt = now;
  }

  /** Whether packets should be coming and are not. */
  isSilent(now) {
    return this.#rate >= LIVELY && now - this.#heardAt >= SILENCE;
  }
}
