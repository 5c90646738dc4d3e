// One call: a room on the signaling server, and the connection to the other person in it.
//
// The one who was in the room first makes the offer, as old pages expect. Later offers may come from both sides; the
// newcomer gives way ("polite" in the pattern of perfect negotiation). Messages are those of old pages:
// {type: "offer"|"answer", sdp} and {type: "candidate", label, id, candidate}; what is added, they ignore.
//
// States: joining, waiting, connecting, connected, full, left. Events: state, problem (a key of the strings), track,
// chat, description.

/** Milliseconds for which a broken connection may mend itself before ICE is restarted. */
const MENDED_WITHIN = 3000;
/** Milliseconds that the other page may take to say that it is still the one it was. */
const RESUMED_WITHIN = 2000;
/** Milliseconds after which a restart that the other page was asked for is asked for again. */
const RESTARTED_WITHIN = 5000;

const randomText = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

export class Call extends EventTarget {
  state = "joining";
  peer = null;
  chat = [];
  #room;
  #media;
  #isRelayOnly;
  #maxKbits = 0;
  #socket;
  /** Tells this page from a later one in the same place. */
  #page = randomText();
  #otherPage = null;
  #isPolite = false;
  #makesOffer = false;
  #ignoresOffer = false;
  #channel = null;
  #early = [];
  #timer = null;
  #ice = null;
  #queue = Promise.resolve();

  constructor(room, media, isRelayOnly) {
    super();
    this.#room = room;
    this.#media = media;
    this.#isRelayOnly = isRelayOnly;
    media.addEventListener("change", () => this.#sendTracks());
    this.#socket = io({ auth: { session: this.#page } });
    const inRoom = (act) => (where, ...values) => where === room && this.#then(() => act(...values));
    this.#socket.on("connect", () => this.#join());
    this.#socket.on("disconnect", () => this.state !== "left" && this.#problem("signalingLost"));
    this.#socket.on("connect_error", () => this.#problem(this.state === "joining" ? "unavailable" : "signalingLost"));
    this.#socket.on("joined", inRoom(() => this.#joined()));
    this.#socket.on("otherjoin", inRoom(() => this.#otherJoined()));
    this.#socket.on("rejoined", inRoom(() => this.#otherJoined()));
    this.#socket.on("full", inRoom(() => this.#full()));
    this.#socket.on("bye", inRoom(() => this.#otherLeft()));
    this.#socket.on("message", inRoom((data) => this.#hear(data)));
    this.#socket.on("error", (why) => this.#problem("roomRefused", why));
  }

  /** Limits what is sent, in kbit/s; 0 is no limit. */
  async limit(kbits) {
    this.#maxKbits = kbits;
    const sender = this.peer?.getSenders().find((sender) => sender.track?.kind === "video");
    if (sender) {
      const parameters = sender.getParameters();
      for (const encoding of parameters.encodings ?? []) {
        kbits > 0 ? (encoding.maxBitrate = kbits * 1000) : delete encoding.maxBitrate;
      }
      await sender.setParameters(parameters);
    }
  }

  /** Sends a line of text. Gives whether there was somebody to send it to. */
  say(text) {
    if (this.#channel?.readyState !== "open") {
      return false;
    }
    this.#channel.send(text);
    this.#note("you", text);
    return true;
  }

  leave() {
    this.#socket.emit("leave", this.#room);
    this.#socket.disconnect();
    this.#hangUp();
    this.#enter("left");
  }

  /** One thing after the other: an answer must not overtake the offer it belongs to. */
  #then(act) {
    this.#queue = this.#queue.then(act).catch((error) => console.warn("call:", error));
  }

  #enter(state) {
    if (this.state !== state) {
      this.state = state;
      this.dispatchEvent(new CustomEvent("state", { detail: state }));
    }
  }

  #problem(key, detail = "") {
    this.dispatchEvent(new CustomEvent("problem", { detail: { key, detail } }));
  }

  #join() {
    this.#socket.emit("join", this.#room, (answer) => {
      if (answer?.ok) {
        this.#ice = { servers: answer.iceServers, until: Date.now() + answer.ttl * 500 };
        this.#isPolite = answer.peers > 0;
      }
    });
  }

  #joined() {
    this.#problem(null);
    // A call that goes on while signaling was away goes on.
    if (!this.peer) {
      this.#enter("waiting");
    }
  }

  #full() {
    this.#socket.disconnect();
    this.#enter("full");
  }

  async #otherJoined() {
    this.#isPolite = false;
    if (!this.peer || !this.#otherPage) {
      return this.#begin();
    }
    // Perhaps it is the same page, whose signaling was interrupted and whose call was not.
    this.#tell({ type: "hello", page: this.#page, with: this.#otherPage });
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#then(() => this.#begin()), RESUMED_WITHIN);
  }

  async #begin() {
    clearTimeout(this.#timer);
    await this.#connect();
    this.#offerChannel();
    await this.#offer();
  }

  #otherLeft() {
    this.#hangUp();
    this.#enter("waiting");
    this.#problem("otherLeft");
  }

  #tell(data) {
    this.#socket.emit("message", this.#room, data);
  }

  async #hear(data) {
    switch (data?.type) {
      case "offer":
        return this.#hearOffer(data);
      case "answer":
        // One that nobody waits for any more belongs to an offer that was taken back.
        if (this.peer?.signalingState !== "have-local-offer") {
          return;
        }
        this.#otherPage = data.page ?? null;
        await this.peer.setRemoteDescription({ type: "answer", sdp: data.sdp });
        return this.#described();
      case "candidate":
        return this.#hearCandidate(data);
      case "hello": {
        const isSame = this.peer && data.with === this.#page && data.page === this.#otherPage;
        return this.#tell({ type: isSame ? "resume" : "renew", page: this.#page });
      }
      case "resume":
        clearTimeout(this.#timer);
        return this.#restart();
      case "restart":
        return this.#isPolite ? undefined : this.#restart();
      case "renew":
        return this.#begin();
    }
  }

  async #hearOffer(data) {
    const isNew = !this.peer || data.isNew === true || (data.page ?? null) !== this.#otherPage;
    if (isNew) {
      await this.#connect();
    }
    const collides = this.#makesOffer || this.peer.signalingState !== "stable";
    this.#ignoresOffer = !isNew && collides && !this.#isPolite;
    if (this.#ignoresOffer) {
      return;
    }
    this.#otherPage = data.page ?? null;
    await this.peer.setRemoteDescription({ type: "offer", sdp: data.sdp });
    this.#sendTracks();
    await this.peer.setLocalDescription();
    this.#tell({ type: "answer", sdp: this.peer.localDescription.sdp, page: this.#page });
    for (const candidate of this.#early.splice(0)) {
      await this.#hearCandidate(candidate);
    }
    this.#described();
  }

  async #hearCandidate(data) {
    if (!this.peer?.remoteDescription) {
      if (this.#early.length < 64) {
        this.#early.push(data);
      }
      return;
    }
    try {
      await this.peer.addIceCandidate({
        candidate: data.candidate,
        sdpMLineIndex: data.label ?? null,
        sdpMid: data.id ?? null,
      });
    } catch (error) {
      if (!this.#ignoresOffer) {
        console.warn("call: a candidate was not taken", error);
      }
    }
  }

  /** Makes the connection anew; what there was before is gone. */
  async #connect() {
    this.#hangUp();
    const iceServers = await this.#iceServers();
    const peer = new RTCPeerConnection({ iceServers, iceTransportPolicy: this.#isRelayOnly ? "relay" : "all" });
    this.peer = peer;
    this.#enter("connecting");
    const isCurrent = (act) => (event) => this.peer === peer && act(event);
    peer.onicecandidate = isCurrent(({ candidate }) => {
      if (candidate?.candidate) {
        const { sdpMLineIndex: label, sdpMid: id } = candidate;
        this.#tell({ type: "candidate", label, id, candidate: candidate.candidate });
      }
    });
    peer.ontrack = isCurrent(({ track }) => this.dispatchEvent(new CustomEvent("track", { detail: track })));
    peer.ondatachannel = isCurrent(({ channel }) => this.#use(channel));
    peer.onnegotiationneeded = isCurrent(() => {
      // The first offer is made on purpose; these are for what changes later.
      if (peer.remoteDescription && peer.signalingState === "stable") {
        this.#then(() => this.peer === peer && this.#offer());
      }
    });
    peer.onconnectionstatechange = isCurrent(() => this.#connectionChanged(peer));
    this.#sendTracks();
  }

  #hangUp() {
    clearTimeout(this.#timer);
    this.#channel = null;
    this.#otherPage = null;
    this.#early = [];
    this.peer?.close();
    this.peer = null;
  }

  #connectionChanged(peer) {
    clearTimeout(this.#timer);
    if (peer.connectionState === "connected") {
      this.#problem(null);
      this.#enter("connected");
      this.limit(this.#maxKbits);
    } else if (peer.connectionState === "disconnected") {
      this.#problem("mediaLost");
      this.#timer = setTimeout(() => this.#then(() => this.#restart()), MENDED_WITHIN);
    } else if (peer.connectionState === "failed") {
      this.#problem("mediaFailed");
      this.#then(() => this.#restart());
    }
  }

  /** Looks for new ways to the other, with fresh credentials. */
  async #restart() {
    const peer = this.peer;
    if (!peer) {
      return;
    }
    peer.setConfiguration({ ...peer.getConfiguration(), iceServers: await this.#iceServers() });
    // One of the two is enough, and two would collide. An old page never asks, so it is not waited for.
    if (this.#isPolite && this.#otherPage) {
      this.#tell({ type: "restart", page: this.#page });
      this.#timer = setTimeout(() => this.#then(() => this.#mendAgain(peer)), RESTARTED_WITHIN);
    } else {
      // The offer follows by itself, see onnegotiationneeded.
      peer.restartIce();
    }
  }

  #mendAgain(peer) {
    if (this.peer === peer && ["disconnected", "failed"].includes(peer.connectionState)) {
      return this.#restart();
    }
  }

  async #offer() {
    const peer = this.peer;
    try {
      this.#makesOffer = true;
      const isNew = !peer.remoteDescription;
      await peer.setLocalDescription();
      this.#tell({ type: "offer", sdp: peer.localDescription.sdp, page: this.#page, isNew });
      this.#described();
    } finally {
      this.#makesOffer = false;
    }
  }

  async #iceServers() {
    if (!this.#ice || this.#ice.until < Date.now()) {
      try {
        const response = await fetch("/api/ice", { cache: "no-store" });
        const { iceServers, ttl } = await response.json();
        this.#ice = { servers: iceServers, until: Date.now() + ttl * 500 };
      } catch {
        // Without any, two people on one network still find each other.
        this.#problem("unavailable");
      }
    }
    return this.#ice?.servers ?? [];
  }

  /** Sends the tracks that there are now, without a new negotiation where one is not needed. */
  #sendTracks() {
    if (!this.peer || this.peer.signalingState === "closed") {
      return;
    }
    for (const kind of ["audio", "video"]) {
      const track = this.#media[kind];
      const transceiver = this.peer.getTransceivers().find((one) => one.receiver.track.kind === kind && !one.stopped);
      if (transceiver) {
        if (transceiver.sender.track !== track) {
          // Old pages look for the stream that a track belongs to.
          transceiver.sender.setStreams?.(this.#media.stream);
          transceiver.sender.replaceTrack(track);
        }
        if (track && transceiver.direction === "recvonly") {
          transceiver.direction = "sendrecv";
        }
      } else if (!this.peer.remoteDescription) {
        // The place is made even without a track, so that one can be sent later.
        this.peer.addTransceiver(track ?? kind, { direction: "sendrecv", streams: [this.#media.stream] });
      }
    }
  }

  #offerChannel() {
    this.#use(this.peer.createDataChannel("chat"));
  }

  #use(channel) {
    this.#channel = channel;
    channel.onmessage = ({ data }) => typeof data === "string" && this.#note("other", data.slice(0, 2000));
  }

  #note(from, text) {
    this.chat.push({ from, text });
    this.dispatchEvent(new CustomEvent("chat", { detail: { from, text } }));
  }

  #described() {
    this.dispatchEvent(new Event("description"));
  }
}
