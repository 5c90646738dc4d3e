// Files of any size over a data channel, one piece after the other, and onward from there after an interruption.
//
// On the channel, text is control and binary is file. The sender offers {type: "offer", id, name, size}, the receiver
// wants it {type: "want", id, from}, then come {type: "begin", id, from}, chunks, and {type: "end", id, hash}. The
// receiver tells each piece it has kept {type: "got", id, at}, and at the end {type: "done", id, ok}. Either side may
// {type: "cancel", id}. One file at a time is under way in each direction, so that a chunk needs no name.
//
// The hash is a chain over pieces, state = SHA-256(state, piece): both sides know it at each piece, so that a file goes
// on in the middle and is still checked as a whole.
//
// On each new channel both first say {type: "hello", me}. To the same one as before, what is not complete is offered
// again, and asked for from where it stopped; from or for another one, it ends. Where files come from and go to is the
// business of others: a Blob here, a sink there.

/** Bytes that are hashed and kept at a time. */
export const PIECE = 1 << 20;
/** Bytes of a message: what every browser takes. */
const CHUNK = 64 * 1024;
/** Pieces that may be under way before the receiver has kept them: a slow disk slows the sender down. */
const WINDOW = 8;
/** Bytes in the channel's own buffer above which the sender waits, and below which it goes on. */
const [FULL, LOW] = [4 * PIECE, PIECE];
/** Files at a time that somebody may offer. */
const MAX_OFFERS = 50;

const link = async (state, piece) => {
  const both = new Uint8Array(state.length + piece.byteLength);
  both.set(state);
  both.set(new Uint8Array(piece), state.length);
  return new Uint8Array(await crypto.subtle.digest("SHA-256", both));
};
const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const newId = () => hex(crypto.getRandomValues(new Uint8Array(8)));
const START = new Uint8Array(32);

/** Signs that change the direction of writing, by which the end of a name looks like another one, and signs without a shape. */
const INVISIBLE = /[\u007f-\u009f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** A name without a path, without what file systems refuse, and without what makes it look like another one. */
export const safeName = (name) => String(name ?? "").replace(INVISIBLE, "").split(/[\\/]/).at(-1).replace(/[\u0000-\u001f<>:"|?*]/g, "_").replace(/^\.+/, "").slice(0, 200) || "file";

/**
 * All files of one call. Items are {id, way: "out" | "in", name, size, done, state, result}; states in order of life:
 * offered, moving, paused, checking, done, failed, cancelled. Event: change, with the item.
 */
export class Transfers extends EventTarget {
  items = [];
  #openSink;
  #now;
  #channel = null;
  /** Changes with the channel, so that what was begun on an old one ends. */
  #era = 0;
  #queue = Promise.resolve();
  #incoming = null;
  /** Tells this side from others. */
  #me = newId();
  #partner = null;

  /** `openSink(name, size)` gives {write(bytes), finish(), abort()}; `now()` gives milliseconds. */
  constructor(openSink, now) {
    super();
    this.#openSink = openSink;
    this.#now = now;
  }

  /** Goes on with this channel; null when there is none. */
  use(channel) {
    this.#era += 1;
    this.#channel = channel;
    this.#incoming = null;
    for (const item of this.items.filter(({ state }) => state === "moving")) {
      this.#enter(item, "paused");
    }
    if (!channel) {
      return;
    }
    channel.binaryType = "arraybuffer";
    channel.bufferedAmountLowThreshold = LOW;
    const isCurrent = (act) => (event) => this.#channel === channel && act(event);
    channel.onmessage = isCurrent(({ data }) => this.#hear(data));
    channel.onopen = isCurrent(() => this.#opened());
    channel.onclose = isCurrent(() => this.use(null));
    if (channel.readyState === "open") {
      this.#opened();
    }
  }

  get isOpen() {
    return this.#channel?.readyState === "open";
  }

  /** Offers a file to the other. */
  send(file) {
    const item = { id: newId(), way: "out", name: file.name || "file", size: file.size, done: 0, state: "offered", since: this.#now(), file, chain: [START], kept: 0 };
    this.items.push(item);
    this.#offer(item);
    this.#told(item);
    return item;
  }

  /** Takes an offered file. It must come straight from a click: browsers ask where to put it only then. */
  async accept(id) {
    const item = this.#find(id, "in");
    if (item?.state !== "offered" || item.sink) {
      return;
    }
    try {
      item.sink = await this.#openSink(item.name, item.size);
    } catch (error) {
      if (error.name !== "AbortError") {
        this.#fail(item, "fileNoSpace");
      }
      return;
    }
    Object.assign(item, { chain: START, kept: 0, wanted: 0, writes: Promise.resolve(), since: this.#now() });
    this.#enter(item, this.isOpen ? "moving" : "paused");
    this.#say({ type: "want", id, from: 0 });
  }

  /** Ends a file for both sides. */
  cancel(id) {
    const item = this.items.find((item) => item.id === id);
    if (item && !["done", "failed", "cancelled"].includes(item.state)) {
      this.#sayCancelled(item);
      this.#drop(item, "cancelled");
    }
  }

  #find(id, way) {
    return this.items.find((item) => item.id === id && item.way === way);
  }

  #told(item) {
    this.dispatchEvent(new CustomEvent("change", { detail: item }));
  }

  #enter(item, state) {
    item.state = state;
    this.#told(item);
  }

  #drop(item, state, problem = null) {
    item.problem = problem;
    if (this.#incoming === item) {
      this.#incoming = null;
    }
    item.sink?.abort?.();
    item.sink = null;
    this.#enter(item, state);
  }

  #fail(item, problem) {
    this.#sayCancelled(item);
    this.#drop(item, "failed", problem);
  }

  /** While there is no channel, it is said on the next one. */
  #sayCancelled(item) {
    item.isUntold = !this.isOpen;
    this.#say({ type: "cancel", id: item.id });
  }

  #say(message) {
    if (this.isOpen) {
      this.#channel.send(JSON.stringify(message));
    }
  }

  #offer({ id, name, size }) {
    this.#say({ type: "offer", id, name, size });
  }

  #opened() {
    this.#say({ type: "hello", me: this.#me });
  }

  /** Goes on with the one from before; what belongs to another one ends. */
  #met(partner) {
    const isSame = [null, partner].includes(this.#partner);
    this.#partner = partner;
    for (const item of this.items) {
      const isOpen = ["offered", "moving", "paused"].includes(item.state);
      if (!isSame) {
        item.isUntold = false;
        if (isOpen) {
          this.#drop(item, "failed", "fileGone");
        }
      } else if (item.isUntold) {
        this.#sayCancelled(item);
      } else if (item.way === "out" && isOpen) {
        this.#offer(item);
      }
    }
  }

  #hear(data) {
    if (typeof data !== "string") {
      return this.#keep(new Uint8Array(data));
    }
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    if (typeof message?.type !== "string") {
      return;
    }
    const own = this.#find(message.id, "out");
    const other = this.#find(message.id, "in");
    switch (message.type) {
      case "hello":
        return typeof message.me === "string" && this.#met(message.me);
      case "offer":
        return this.#offered(message, other);
      case "want":
        return own && this.#wanted(own, message.from);
      case "begin":
        // What was not asked for would be written all the same, without an end.
        if (other?.sink && message.from === other.wanted) {
          this.#incoming = other;
          other.wanted = null;
          Object.assign(other, { piece: new Uint8Array(Math.min(PIECE, other.size - message.from)), filled: 0, heard: message.from });
        }
        return;
      case "end":
        this.#incoming = null;
        return other?.sink && this.#ended(other, message.hash);
      case "got":
        if (own && message.at > own.done) {
          own.done = Math.min(message.at, own.size);
          this.#told(own);
          own.wake?.();
        }
        return;
      case "done":
        return own && (message.ok ? this.#finished(own) : this.#drop(own, "failed", "fileBroken"));
      case "cancel": {
        const item = own ?? other;
        return item && !["done", "failed", "cancelled"].includes(item.state) && this.#drop(item, "cancelled");
      }
    }
  }

  #offered({ id, name, size }, known) {
    if (known) {
      // It was under way when the old channel ended.
      if (known.sink && known.state === "paused") {
        const era = this.#era;
        known.writes.then(() => {
          if (this.#era === era && known.sink) {
            this.#enter(known, "moving");
            known.wanted = known.kept;
            this.#say({ type: "want", id, from: known.kept });
          }
        });
      } else if (known.state === "done") {
        // It was complete, and the word of that was lost with the old channel.
        this.#say({ type: "done", id, ok: true });
      } else if (["failed", "cancelled"].includes(known.state)) {
        this.#say({ type: "cancel", id });
      }
      return;
    }
    const isFit = typeof id === "string" && Number.isSafeInteger(size) && size >= 0;
    if (isFit && this.items.filter(({ state }) => state === "offered").length < MAX_OFFERS) {
      const item = { id, way: "in", name: safeName(name), size, done: 0, state: "offered", since: this.#now(), sink: null };
      this.items.push(item);
      this.#told(item);
    }
  }

  #wanted(item, from) {
    const isFit = Number.isSafeInteger(from) && from >= 0 && from <= item.size && (from % PIECE === 0 || from === item.size);
    if (!isFit || ["done", "failed", "cancelled", "moving"].includes(item.state)) {
      return;
    }
    const era = this.#era;
    item.since = this.#now();
    this.#enter(item, "moving");
    this.#queue = this.#queue
      .then(() => this.#pump(item, from, era))
      .catch((error) => this.#era === era && item.state === "moving" && this.#fail(item, error.name === "NotReadableError" ? "fileUnreadable" : "fileFailed"));
  }

  async #pump(item, from, era) {
    const channel = this.#channel;
    const goesOn = () => this.#era === era && item.state === "moving" && channel.readyState === "open";
    if (!goesOn()) {
      return;
    }
    // The chain is known up to every piece that was ever read.
    let index = Math.min(item.chain.length - 1, Math.floor(from / PIECE));
    let at = index * PIECE;
    item.done = from;
    channel.send(JSON.stringify({ type: "begin", id: item.id, from }));
    while (at < item.size) {
      while (goesOn() && at - item.done >= WINDOW * PIECE) {
        await new Promise((wake) => {
          item.wake = wake;
          channel.addEventListener("close", wake, { once: true });
        });
      }
      if (!goesOn()) {
        return;
      }
      const piece = await item.file.slice(at, at + PIECE).arrayBuffer();
      item.chain[index + 1] ??= await link(item.chain[index], piece);
      if (at >= from && !(await this.#sendPiece(piece, channel, goesOn))) {
        return;
      }
      at += piece.byteLength;
      index += 1;
    }
    if (goesOn()) {
      item.hash = hex(item.chain[index]);
      channel.send(JSON.stringify({ type: "end", id: item.id, hash: item.hash }));
    }
  }

  async #sendPiece(piece, channel, goesOn) {
    for (let start = 0; start < piece.byteLength; start += CHUNK) {
      if (channel.bufferedAmount > FULL) {
        await new Promise((wake) => {
          channel.addEventListener("bufferedamountlow", wake, { once: true });
          channel.addEventListener("close", wake, { once: true });
        });
      }
      if (!goesOn()) {
        return false;
      }
      channel.send(piece.slice(start, start + CHUNK));
    }
    return true;
  }

  #keep(chunk) {
    const item = this.#incoming;
    if (!item?.sink) {
      return;
    }
    if (item.filled + chunk.length > item.piece.length) {
      return this.#fail(item, "fileBroken");
    }
    item.piece.set(chunk, item.filled);
    item.filled += chunk.length;
    item.heard += chunk.length;
    if (item.filled === item.piece.length) {
      const piece = item.piece;
      item.piece = new Uint8Array(Math.min(PIECE, item.size - item.heard));
      item.filled = 0;
      item.writes = item.writes.then(() => this.#write(item, piece));
    }
  }

  async #write(item, piece) {
    if (!item.sink) {
      return;
    }
    try {
      await item.sink.write(piece);
    } catch {
      return this.#fail(item, "fileNoSpace");
    }
    item.chain = await link(item.chain, piece);
    item.kept += piece.length;
    item.done = item.kept;
    this.#say({ type: "got", id: item.id, at: item.kept });
    this.#told(item);
  }

  #ended(item, hash) {
    const check = async () => {
      if (!item.sink) {
        return;
      }
      this.#enter(item, "checking");
      if (item.kept !== item.size || hex(item.chain) !== hash) {
        this.#say({ type: "done", id: item.id, ok: false });
        return this.#drop(item, "failed", "fileBroken");
      }
      item.result = await item.sink.finish();
      item.sink = null;
      this.#say({ type: "done", id: item.id, ok: true });
      item.hash = hash;
      this.#finished(item);
    };
    item.writes = item.writes.then(check).catch(() => this.#fail(item, "fileNoSpace"));
  }

  #finished(item) {
    item.done = item.size;
    item.endedAt = this.#now();
    this.#enter(item, "done");
  }
}
