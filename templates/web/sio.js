// A Socket.IO client: protocol 5 over Engine.IO 4, by WebSocket with long polling behind it. JSON only.
//
// Defines io() as pages for a stock Socket.IO server expect it:
//   const socket = io();                    // or io("https://host:port", { auth: {...} })
//   socket.on("connect", () => socket.emit("join", "room", (answer) => ...));
// What it leaves out: binary data, more than one namespace on one connection, volatile and compressed packets.
(() => {
  "use strict";

  const ENGINE = { open: "0", close: "1", ping: "2", pong: "3", message: "4" };
  const PACKET = { connect: "0", disconnect: "1", event: "2", ack: "3", error: "4" };
  const SEPARATOR = "\x1e";
  /** Milliseconds that a transport may take to open. */
  const OPENED_WITHIN = 8000;
  /** Milliseconds after which a connection that was replaced is closed. */
  const REPLACED_WITHIN = 5000;
  /** Packets kept while there is no connection. */
  const MAX_KEPT = 256;

  class Emitter {
    #listeners = new Map();

    on(event, listener) {
      const known = this.#listeners.get(event) ?? [];
      this.#listeners.set(event, [...known, listener]);
      return this;
    }

    once(event, listener) {
      const once = (...values) => {
        this.off(event, once);
        listener.apply(this, values);
      };
      once.of = listener;
      return this.on(event, once);
    }

    off(event, listener) {
      if (event === undefined) {
        this.#listeners.clear();
      } else if (listener === undefined) {
        this.#listeners.delete(event);
      } else {
        const known = this.#listeners.get(event) ?? [];
        this.#listeners.set(event, known.filter((other) => other !== listener && other.of !== listener));
      }
      return this;
    }

    addEventListener(event, listener) {
      return this.on(event, listener);
    }

    removeListener(event, listener) {
      return this.off(event, listener);
    }

    removeEventListener(event, listener) {
      return this.off(event, listener);
    }

    removeAllListeners(event) {
      return this.off(event);
    }

    listeners(event) {
      return [...(this.#listeners.get(event) ?? [])];
    }

    hasListeners(event) {
      return this.listeners(event).length > 0;
    }

    tell(event, ...values) {
      for (const listener of this.listeners(event)) {
        listener.apply(this, values);
      }
    }
  }

  /** One WebSocket, as a stream of Engine.IO packets. */
  class WebSocketTransport {
    constructor(url, hear, closed) {
      this.socket = new WebSocket(url.replace(/^http/, "ws") + "&transport=websocket");
      this.socket.onmessage = ({ data }) => typeof data === "string" && hear(data);
      this.socket.onclose = () => closed("transport close");
      this.socket.onerror = () => closed("transport error");
    }

    send(packet) {
      this.socket.send(packet);
    }

    close() {
      this.socket.onmessage = this.socket.onclose = this.socket.onerror = null;
      this.socket.close();
    }
  }

  /** Requests that wait for packets, and requests that bring some. */
  class PollingTransport {
    #waiting = [];
    #isSending = false;
    #isLeaving = false;
    #abort = new AbortController();

    constructor(url, hear, closed) {
      this.url = url + "&transport=polling";
      this.hear = hear;
      this.closed = closed;
      this.#poll();
    }

    async #poll() {
      try {
        while (!this.#abort.signal.aborted && !this.#isLeaving) {
          const response = await fetch(this.url, { signal: this.#abort.signal, cache: "no-store" });
          if (!response.ok) {
            throw new Error(`status ${response.status}`);
          }
          for (const packet of (await response.text()).split(SEPARATOR)) {
            if (packet.startsWith(ENGINE.open) && !this.url.includes("&sid=")) {
              this.url += `&sid=${encodeURIComponent(JSON.parse(packet.slice(1)).sid)}`;
            }
            this.hear(packet);
          }
        }
      } catch {
        this.#end();
      }
    }

    send(packet) {
      this.#waiting.push(packet);
      if (!this.#isSending) {
        this.#flush();
      }
    }

    async #flush() {
      this.#isSending = true;
      try {
        while (this.#waiting.length > 0 && !this.#abort.signal.aborted) {
          const body = this.#waiting.splice(0).join(SEPARATOR);
          const headers = { "content-type": "text/plain;charset=UTF-8" };
          const response = await fetch(this.url, { method: "POST", headers, body, signal: this.#abort.signal });
          if (!response.ok) {
            throw new Error(`status ${response.status}`);
          }
        }
      } catch {
        this.#end();
      }
      this.#isSending = false;
    }

    #end() {
      if (!this.#abort.signal.aborted) {
        this.#abort.abort();
        this.closed("transport error");
      }
    }

    /** Sends what is to be sent, and asks for nothing more: the session is over as soon as the server hears it. */
    leave() {
      this.#isLeaving = true;
    }

    close() {
      this.#abort.abort();
    }
  }

  const TRANSPORTS = { websocket: WebSocketTransport, polling: PollingTransport };

  class Socket extends Emitter {
    #url;
    #namespace;
    #options;
    #transport = null;
    /** Which of the transports is tried. */
    #choice = 0;
    #isWanted = false;
    #attempts = 0;
    #timer = null;
    #silence = null;
    #patience = 0;
    #acks = new Map();
    #nextAck = 0;
    #kept = [];

    constructor(url, options) {
      super();
      const parsed = new URL(url, location.href);
      this.#namespace = parsed.pathname === "/" || url === location.origin ? "/" : parsed.pathname;
      const path = (options.path ?? "/socket.io").replace(/\/*$/, "/");
      // Pages have it in the address, as an object or, for version 2, as text.
      const query = parsed.searchParams;
      new URLSearchParams(options.query ?? "").forEach((value, name) => query.set(name, value));
      query.set("EIO", "4");
      this.#url = `${parsed.protocol}//${parsed.host}${path}?${query}`;
      this.#options = {
        transports: ["websocket", "polling"],
        reconnection: true,
        reconnectionDelay: 500,
        reconnectionDelayMax: 5000,
        reconnectionAttempts: Infinity,
        ...options,
      };
      this.id = undefined;
      this.connected = false;
      this.io = new Emitter();
      if (options.autoConnect !== false) {
        this.connect();
      }
    }

    get disconnected() {
      return !this.connected;
    }

    get active() {
      return this.#isWanted;
    }

    connect() {
      if (!this.#isWanted) {
        this.#isWanted = true;
        this.#attempts = 0;
        this.#open();
      }
      return this;
    }

    open() {
      return this.connect();
    }

    disconnect() {
      this.#isWanted = false;
      clearTimeout(this.#timer);
      if (this.connected) {
        this.#say(PACKET.disconnect);
      }
      const transport = this.#transport;
      this.#lost("io client disconnect");
      // What was said last must get out before the connection ends.
      transport?.leave?.();
      setTimeout(() => transport?.close(), 200);
      return this;
    }

    close() {
      return this.disconnect();
    }

    /** Gives up a connection that may be dead, and opens another at once. Not in a stock client. */
    reconnect() {
      if (this.#isWanted) {
        this.#lost("transport close", 0);
      }
      return this;
    }

    /** Sends an event; a function as the last argument hears the acknowledgement. */
    emit(event, ...values) {
      let id = "";
      if (typeof values.at(-1) === "function") {
        id = String(this.#nextAck++);
        this.#acks.set(id, values.pop());
      }
      const packet = [PACKET.event, id + JSON.stringify([event, ...values])];
      if (this.connected) {
        this.#say(...packet);
      } else if (this.#kept.length < MAX_KEPT) {
        this.#kept.push(packet);
      }
      return this;
    }

    send(...values) {
      return this.emit("message", ...values);
    }

    #open() {
      const { transports } = this.#options;
      const Transport = TRANSPORTS[transports[this.#choice % transports.length]];
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#lost("timeout"), OPENED_WITHIN);
      const hear = (packet) => transport === this.#transport && this.#hear(packet);
      const closed = (reason) => transport === this.#transport && this.#lost(reason);
      let transport = null;
      try {
        transport = new Transport(this.#url, (packet) => hear(packet), (reason) => closed(reason));
      } catch {
        transport = { close() {} };
        setTimeout(() => closed("transport error"));
      }
      this.#transport = transport;
    }

    #hear(packet) {
      const kind = packet[0];
      if (kind === ENGINE.open) {
        const { pingInterval, pingTimeout } = JSON.parse(packet.slice(1));
        this.#patience = pingInterval + pingTimeout;
        this.#listen();
        this.#sayHello();
      } else if (kind === ENGINE.ping) {
        this.#listen();
        this.#transport.send(ENGINE.pong + packet.slice(1));
      } else if (kind === ENGINE.message) {
        this.#understand(packet.slice(1));
      } else if (kind === ENGINE.close) {
        this.#lost("transport close");
      }
    }

    /** Gives the server until then to be heard of again. */
    #listen() {
      clearTimeout(this.#silence);
      this.#silence = setTimeout(() => this.#lost("ping timeout"), this.#patience);
    }

    #sayHello() {
      const { auth } = this.#options;
      const say = (values) => this.#say(PACKET.connect, values ? JSON.stringify(values) : "");
      typeof auth === "function" ? auth(say) : say(auth);
    }

    #say(kind, payload = "") {
      const namespace = this.#namespace === "/" ? "" : `${this.#namespace},`;
      this.#transport?.send(ENGINE.message + kind + namespace + payload);
    }

    #understand(packet) {
      const [, kind, , id, payload] = /^(\d)(?:(\/[^,]*),)?(\d*)(.*)$/s.exec(packet) ?? [];
      const values = payload ? JSON.parse(payload) : undefined;
      if (kind === PACKET.connect) {
        this.#connected(values?.sid);
      } else if (kind === PACKET.event) {
        const answer = (...answers) => this.#say(PACKET.ack, id + JSON.stringify(answers));
        this.tell(values[0], ...values.slice(1), ...(id ? [answer] : []));
      } else if (kind === PACKET.ack) {
        const heard = this.#acks.get(id);
        this.#acks.delete(id);
        heard?.(...values);
      } else if (kind === PACKET.error) {
        // It has nothing more to say; the server counts it as long as it is there.
        const transport = this.#transport;
        [this.#isWanted, this.#transport] = [false, null];
        clearTimeout(this.#timer);
        clearTimeout(this.#silence);
        transport?.close();
        this.tell("connect_error", Object.assign(new Error(values?.message ?? "refused"), { data: values?.data }));
      } else if (kind === PACKET.disconnect) {
        this.#isWanted = false;
        this.#lost("io server disconnect");
      }
    }

    #connected(id) {
      clearTimeout(this.#timer);
      const attempts = this.#attempts;
      this.#attempts = 0;
      this.id = id;
      this.connected = true;
      this.tell("connect");
      for (const packet of this.#kept.splice(0)) {
        this.#say(...packet);
      }
      if (attempts > 0) {
        this.io.tell("reconnect", attempts);
        this.tell("reconnect", attempts);
      }
    }

    #lost(reason, delay) {
      clearTimeout(this.#timer);
      clearTimeout(this.#silence);
      const [transport, wasConnected] = [this.#transport, this.connected];
      this.#transport = null;
      this.connected = false;
      this.id = undefined;
      this.#acks.clear();
      if (delay === 0) {
        // Closed before the new one has the old one's place, it would give that place up.
        setTimeout(() => transport?.close(), REPLACED_WITHIN);
      } else if (reason !== "io client disconnect") {
        transport?.close();
      }
      if (wasConnected) {
        this.tell("disconnect", reason);
      } else if (this.#isWanted) {
        // What did not open may be blocked on the way; the next try is by the other transport.
        this.#choice += 1;
        this.tell("connect_error", new Error(reason));
      }
      if (this.#isWanted && this.#options.reconnection && this.#attempts < this.#options.reconnectionAttempts) {
        const { reconnectionDelay, reconnectionDelayMax } = this.#options;
        const longest = Math.min(reconnectionDelay * 2 ** this.#attempts, reconnectionDelayMax);
        this.#attempts += 1;
        this.tell("reconnecting", this.#attempts);
        this.io.tell("reconnect_attempt", this.#attempts);
        // Half of it by chance, so that the clients of a restarted server do not come all at once.
        this.#timer = setTimeout(() => this.#open(), delay ?? longest * (0.5 + Math.random() / 2));
      }
    }
  }

  const io = (url, options) => {
    const [target, wishes] = typeof url === "object" ? [undefined, url] : [url, options];
    return new Socket(target ?? location.origin, wishes ?? {});
  };
  io.io = io.connect = io;
  io.protocol = 5;
  io.Socket = Socket;
  globalThis.io = io;
})();
