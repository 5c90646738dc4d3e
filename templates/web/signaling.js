// The way to the signaling server: one socket, the room, and what of it may fail.
//
// The socket is opened before somebody joins, so that joining is one message. Its events are told to the journal.

import { knownKey } from "./access.js";
import { joinProblem, refusalProblem } from "./problems.js";

/** Milliseconds that the server may take to answer before the connection is taken for dead. */
const ANSWERED_WITHIN = 1200;
const OPENED_WITHIN = 6000;
/** Milliseconds after which a server that had no place is asked again, and as much again by chance. */
const ASKED_AGAIN_AFTER = 4000;

const random = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** Tells this page from a later one in the same place. The other person learns it. */
export const PAGE = random();
/** The server keeps the place of this page for whoever knows this; nobody else learns it. */
const SESSION = random();

/**
 * Events: joined (the server's answer), left, other (somebody came), returned (somebody came back into a kept place),
 * bye, message, problem (a key, or null when it has passed), refused (a key: it is over).
 */
export class Signaling extends EventTarget {
  #socket;
  #journal = null;
  #room = null;
  #isLost = false;
  #isRestarting = false;

  constructor() {
    super();
    // The key, too: some browsers keep no cookies.
    this.#socket = io({ auth: (say) => say({ session: SESSION, key: knownKey() ?? undefined }) });
    const socket = this.#socket;
    socket.on("connect", () => {
      this.#note("own", "connect", socket.id);
      if (this.#room !== null) {
        this.#join();
      }
    });
    socket.on("disconnect", (reason) => this.#disconnected(reason));
    socket.on("connect_error", (error) => this.#notConnected(error));
    socket.on("restarting", () => {
      this.#note("in", "restarting");
      this.#isRestarting = true;
      this.#problem("serverRestarting");
    });
    socket.on("kicked", () => this.#over("kicked"));
    socket.on("error", (why) => {
      this.#note("in", "error", why);
      this.#problem("serverSays", String(why));
    });
    this.#hear("otherjoin", (id) => this.#tell("other", id));
    this.#hear("rejoined", (id) => this.#tell("returned", id));
    this.#hear("bye", (id) => this.#tell("bye", id));
    this.#hear("joined", () => {});
    this.#hear("leaved", () => {});
    this.#hear("full", () => this.#over("full"));
    this.#hear("message", (data) => this.#tell("message", data));
  }

  /** Connects once more, after it was refused. */
  open() {
    if (!this.#socket.connected) {
      this.#socket.connect();
    }
  }

  /** Enters a room, and comes back into it after each interruption until `leave`. */
  join(room, journal) {
    [this.#room, this.#journal, this.#isLost, this.#isRestarting] = [room, journal, false, false];
    if (this.#socket.connected) {
      this.#join();
    } else {
      this.#socket.connect();
    }
  }

  leave() {
    if (this.#room !== null) {
      if (this.#socket.connected) {
        // Kept for a later connection it would undo a later join.
        this.#note("out", "leave", this.#room);
        this.#socket.emit("leave", this.#room);
      }
      this.#room = null;
      this.#socket.disconnect();
    }
  }

  send(data) {
    if (this.#room !== null) {
      this.#note("out", data.type ?? "message", describe(data));
      this.#socket.emit("message", this.#room, data);
    }
  }

  /** Makes sure within about a second that the server hears; a dead connection is replaced by a new one. */
  check() {
    if (this.#room === null || !this.#socket.connected) {
      return;
    }
    const { id } = this.#socket;
    const timer = setTimeout(() => {
      if (this.#room !== null && this.#socket.id === id) {
        this.#note("own", "reconnect");
        // A stock client has no such method; there the time-out of its own does it later.
        this.#socket.reconnect?.();
      }
    }, ANSWERED_WITHIN);
    // To join twice is harmless, and it is answered.
    this.#socket.emit("join", this.#room, (answer) => {
      clearTimeout(timer);
      if (answer?.ok) {
        this.#tell("fresh", answer);
      }
    });
  }

  #hear(event, act) {
    this.#socket.on(event, (room, ...values) => {
      if (room === this.#room && room !== null) {
        const [value] = values;
        this.#note("in", event === "message" ? (value?.type ?? "message") : event, event === "message" ? describe(value) : (value ?? ""));
        act(...values);
      }
    });
  }

  #join() {
    const room = this.#room;
    this.#note("out", "join", room);
    const { id } = this.#socket;
    const timer = setTimeout(() => {
      if (room !== this.#room) {
        return;
      }
      this.#problem("unavailable");
      if (this.#socket.connected && this.#socket.id === id) {
        // Whatever has become of the question, another connection asks it again.
        this.#note("own", "reconnect");
        this.#socket.reconnect?.();
      }
    }, OPENED_WITHIN);
    this.#socket.emit("join", room, (answer) => {
      clearTimeout(timer);
      if (room !== this.#room) {
        return;
      }
      const problem = joinProblem(answer);
      if (problem === null) {
        [this.#isLost, this.#isRestarting] = [false, false];
        this.#problem(null);
        this.#tell("joined", answer ?? {});
      } else if (problem !== "full") {
        this.#over(problem, problem === "roomRefused" ? String(answer.error) : "");
      }
    });
  }

  #disconnected(reason) {
    if (this.#room === null) {
      return;
    }
    this.#note("own", "disconnect", reason);
    if (reason === "io server disconnect") {
      return this.#over("kicked");
    }
    this.#isLost = true;
    this.#problem(this.#isRestarting ? "serverRestarting" : "signalingLost");
  }

  #notConnected(error) {
    const refusal = refusalProblem(error?.message);
    if (refusal === null && this.#room === null) {
      return;
    }
    this.#note("own", "connect_error", error?.message ?? error);
    if (refusal !== null) {
      return this.#over(refusal);
    }
    if (this.#socket.active === false) {
      // Turned away by the server itself, after which a client does not try again by itself.
      setTimeout(() => this.#room !== null && this.open(), ASKED_AGAIN_AFTER * (1 + Math.random()));
      return this.#problem("serverFull");
    }
    this.#problem(this.#isRestarting ? "serverRestarting" : this.#isLost ? "signalingLost" : "unavailable");
  }

  #over(key, detail = "") {
    this.#room = null;
    this.#socket.disconnect();
    this.dispatchEvent(new CustomEvent("refused", { detail: { key, detail } }));
  }

  #note(...what) {
    this.#journal?.event(...what);
  }

  #problem(key, detail = "") {
    this.dispatchEvent(new CustomEvent("problem", { detail: { key, detail } }));
  }

  #tell(event, detail) {
    this.dispatchEvent(new CustomEvent(event, { detail }));
  }
}

/** What of a message is worth a line in the log. */
function describe(data) {
  if (data?.sdp) {
    return `${data.sdp.split(/\r?\n/).length} lines`;
  }
  return data?.candidate ?? (data?.type ? "" : JSON.stringify(data ?? null).slice(0, 200));
}
