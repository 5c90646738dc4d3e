// One call: the connection to the other person in a room.
//
// The one who was in the room first makes the offer, as old pages expect. Later offers may come from both sides; the
// newcomer gives way ("polite" in the pattern of perfect negotiation). Messages are those of old pages:
// {type: "offer"|"answer", sdp} and {type: "candidate", label, id, candidate}; what is added, they ignore. An offer has
// a number, and its answer the same: where several are on the way, an answer counts for none but its own.
//
// States: joining, waiting, connecting, connected, left, and the keys of what ended it (full, kicked, keyMissing, ..).
// Events: state, problem (a key of the strings), track, chat, description, status (of the other).

import { Channels } from "./channels.js";
import { withCall } from "./problems.js";
import { limitRate, offerTrack, preferCodec, sendTracks } from "./senders.js";
import { configuration } from "./servers.js";
import { PAGE } from "./signaling.js";
import { Watch } from "./watch.js";

/** Milliseconds for which a broken connection may mend itself before ICE is restarted. */
const MENDED_WITHIN = 1500;
/** Milliseconds that the other page may take to say that it is still the one it was. */
const RESUMED_WITHIN = 2000;
/** Milliseconds after which a restart that the other page was asked for is asked for again. */
const RESTARTED_WITHIN = 4000;
/** Milliseconds after which one whom neither the server nor the connection knows any more has gone: as long as a server keeps a place. */
const GONE_AFTER = 15000;
/** Milliseconds between two looks at whether anything arrives. */
const WATCHED_EVERY = 400;

export class Call extends EventTarget {
  state = "joining";
  peer = null;
  #signaling;
  #media;
  #journal;
  #channels;
  #way;
  #maxKbits = 0;
  #codec = "";
  /** The other's page; null for an old one. */
  #otherPage = null;
  #isPolite = false;
  #makesOffer = false;
  #ignoresOffer = false;
  #offers = 0;
  #early = [];
  #timer = null;
  #watch = null;
  #watchTimer;
  #isSilent = false;
  /** Whether the server knows of nobody else in the room, and since when the connection does not either. */
  #isAlone = false;
  #lostSince = null;
  #ice = null;
  #queue = Promise.resolve();
  #listening = new AbortController();

  /** `room` is joined at once; `way` is one of WAYS. */
  constructor({ room, signaling, media, journal, transfers, way }) {
    super();
    Object.assign(this, { room });
    [this.#signaling, this.#media, this.#journal, this.#way] = [signaling, media, journal, way];
    this.#channels = new Channels(media, transfers);
    const { signal } = this.#listening;
    const on = (target, event, act) => target.addEventListener(event, act, { signal });
    on(media, "change", () => this.#sendTracks());
    on(media, "status", () => this.#channels.sayStatus());
    on(this.#channels, "chat", ({ detail }) => this.dispatchEvent(new CustomEvent("chat", { detail })));
    on(this.#channels, "status", () => this.dispatchEvent(new Event("status")));
    on(this.#channels, "left", () => this.#then(() => this.#otherLeft()));
    on(signaling, "problem", ({ detail }) => this.#problem(withCall(detail.key, this.isInterrupted), detail.detail));
    on(signaling, "refused", ({ detail }) => this.#end(detail.key, detail.detail));
    on(signaling, "fresh", ({ detail }) => this.#keepIce(detail));
    on(signaling, "joined", ({ detail }) => this.#then(() => this.#joined(detail)));
    on(signaling, "other", () => this.#then(() => this.#otherJoined()));
    on(signaling, "returned", () => this.#then(() => this.#otherJoined()));
    on(signaling, "bye", () => this.#then(() => this.#otherLeft()));
    on(signaling, "message", ({ detail }) => this.#then(() => this.#hear(detail)));
    on(globalThis, "online", () => this.#networkChanged());
    if (navigator.connection) {
      on(navigator.connection, "change", () => this.#networkChanged());
    }
    this.#watchTimer = setInterval(() => this.#look(), WATCHED_EVERY);
    signaling.join(room, journal);
  }

  /** The lines of chat: {from: "you" | "other", text}. */
  get chat() {
    return this.#channels.lines;
  }

  /** What the other tells of itself: {muted, hidden, sharing}; null of an old page. */
  get other() {
    return this.#channels.other;
  }

  /** Whether what should come from the other does not. */
  get isInterrupted() {
    return ["disconnected", "failed"].includes(this.peer?.connectionState) || Boolean(this.#watch?.isSilent(performance.now()));
  }

  /** Limits what is sent, in kbit/s; 0 is no limit. */
  limit(kbits) {
    this.#maxKbits = kbits;
    return limitRate(this.peer, kbits);
  }

  /** Prefers a codec for video, like "VP9"; an empty name leaves it to the browser. Where it can, it negotiates anew. */
  prefer(codec) {
    this.#codec = codec;
    if (preferCodec(this.peer, codec) && this.peer?.remoteDescription) {
      this.#then(() => this.#offer());
    }
  }

  /** Changes the way that is forced, in the middle of a call. */
  force(way) {
    this.#way = way;
    this.#then(() => this.#restart());
  }

  /** Looks for a new way now. */
  restart() {
    this.#then(() => this.#restart());
  }

  /** Sends a line of text. Gives whether there was somebody to send it to. */
  say(text) {
    return this.#channels.say(text);
  }

  leave() {
    this.#channels.sayLeft();
    this.#signaling.leave();
    this.#end("left");
  }

  /** `why`: what the server said. */
  #end(state, why = "") {
    this.#listening.abort();
    clearInterval(this.#watchTimer);
    this.#hangUp();
    this.#enter(state, why);
  }

  /** One thing after the other: an answer must not overtake the offer it belongs to. */
  #then(act) {
    this.#queue = this.#queue.then(act).catch((error) => {
      this.#journal.event("own", "error", error);
      console.info("call:", error);
    });
  }

  #enter(state, why = "") {
    if (this.state !== state) {
      this.state = state;
      this.#journal.event("own", "state", state);
      this.dispatchEvent(new CustomEvent("state", { detail: { state, why } }));
    }
  }

  #problem(key, detail = "") {
    this.dispatchEvent(new CustomEvent("problem", { detail: { key, detail } }));
  }

  #keepIce({ iceServers, ttl }) {
    if (iceServers) {
      this.#ice = { servers: iceServers, until: Date.now() + (ttl ?? 600) * 500 };
    }
  }

  #joined(answer) {
    this.#keepIce(answer);
    this.#isPolite = answer.peers > 0;
    this.#isAlone = !(answer.peers > 0);
    // A call that goes on while signaling was away goes on.
    if (!this.peer) {
      this.#enter("waiting");
    } else if (this.peer.connectionState !== "connected") {
      return this.#restart();
    }
  }

  async #otherJoined() {
    this.#isPolite = false;
    this.#isAlone = false;
    if (!this.peer || !this.#otherPage) {
      return this.#begin();
    }
    // Perhaps it is the same page, whose signaling was interrupted and whose call was not.
    this.#signaling.send({ type: "hello", page: PAGE, with: this.#otherPage });
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#then(() => this.#begin()), RESUMED_WITHIN);
  }

  async #begin() {
    clearTimeout(this.#timer);
    await this.#connect();
    for (const kind of ["audio", "video"]) {
      offerTrack(this.peer, kind, this.#media);
    }
    preferCodec(this.peer, this.#codec);
    this.#channels.open(this.peer);
    this.#channels.useChat(this.peer.createDataChannel("chat"));
    await this.#offer();
  }

  /** Told by the other itself, by the server, or by both. */
  #otherLeft() {
    if (!this.peer) {
      return;
    }
    this.#hangUp();
    this.#enter("waiting");
    this.#problem("otherLeft");
  }

  async #hear(data) {
    switch (data?.type) {
      case "offer":
        return this.#hearOffer(data);
      case "answer":
        // One that nobody waits for any more belongs to an offer that was taken back, or to the one before the last.
        if (this.peer?.signalingState !== "have-local-offer" || (data.number ?? this.#offers) !== this.#offers) {
          return;
        }
        this.#otherPage = data.page ?? null;
        await this.peer.setRemoteDescription({ type: "answer", sdp: data.sdp });
        this.#watch.handleTry(performance.now());
        await this.#takeEarly();
        return this.#described("other");
      case "candidate":
        return this.#hearCandidate(data);
      case "hello": {
        const isSame = this.peer && data.with === PAGE && data.page === this.#otherPage;
        return this.#signaling.send({ type: isSame ? "resume" : "renew", page: PAGE });
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
      const early = this.#early;
      await this.#connect();
      this.#early = early;
      if (data.page) {
        this.#channels.open(this.peer);
      }
    }
    const collides = this.#makesOffer || this.peer.signalingState !== "stable";
    this.#ignoresOffer = !isNew && collides && !this.#isPolite;
    if (this.#ignoresOffer) {
      return;
    }
    this.#otherPage = data.page ?? null;
    await this.peer.setRemoteDescription({ type: "offer", sdp: data.sdp });
    this.#described("other");
    this.#sendTracks();
    preferCodec(this.peer, this.#codec);
    await this.peer.setLocalDescription();
    this.#signaling.send({ type: "answer", sdp: this.peer.localDescription.sdp, page: PAGE, number: data.number });
    this.#watch.handleTry(performance.now());
    this.#described("own");
    await this.#takeEarly();
  }

  async #takeEarly() {
    for (const candidate of this.#early.splice(0)) {
      await this.#addCandidate(candidate);
    }
  }

  async #hearCandidate(data) {
    this.#journal.candidate("other", data.candidate);
    if (this.peer?.remoteDescription) {
      return this.#addCandidate(data);
    }
    if (this.#early.length < 64) {
      this.#early.push(data);
    }
  }

  async #addCandidate({ candidate, label, id }) {
    try {
      await this.peer.addIceCandidate({ candidate, sdpMLineIndex: label ?? null, sdpMid: id ?? null });
    } catch (error) {
      if (!this.#ignoresOffer) {
        this.#journal.event("own", "candidate", error);
      }
    }
  }

  /** Makes the connection anew; what there was before is gone. */
  async #connect() {
    this.#hangUp();
    const peer = new RTCPeerConnection(configuration(await this.#iceServers(), this.#way));
    this.peer = peer;
    this.#watch = new Watch();
    this.#enter("connecting");
    const isCurrent = (act) => (event) => this.peer === peer && act(event);
    peer.onicecandidate = isCurrent(({ candidate }) => {
      if (candidate?.candidate) {
        const { sdpMLineIndex: label, sdpMid: id } = candidate;
        this.#journal.candidate("own", candidate.candidate, { url: candidate.url, relayProtocol: candidate.relayProtocol });
        this.#signaling.send({ type: "candidate", label, id, candidate: candidate.candidate });
      }
    });
    peer.onicecandidateerror = isCurrent((event) => this.#journal.error(event));
    peer.onicegatheringstatechange = isCurrent(() => this.#journal.event("own", "iceGathering", peer.iceGatheringState));
    peer.oniceconnectionstatechange = isCurrent(() => this.#journal.event("own", "iceConnection", peer.iceConnectionState));
    peer.onsignalingstatechange = isCurrent(() => this.#journal.event("own", "signalingState", peer.signalingState));
    peer.ontrack = isCurrent(({ track }) => this.dispatchEvent(new CustomEvent("track", { detail: track })));
    peer.ondatachannel = isCurrent(({ channel }) => this.#channels.useChat(channel));
    peer.onnegotiationneeded = isCurrent(() => {
      // The first offer is made on purpose; these are for what changes later.
      if (peer.remoteDescription && peer.signalingState === "stable") {
        this.#then(() => this.peer === peer && this.#offer());
      }
    });
    peer.onconnectionstatechange = isCurrent(() => this.#connectionChanged(peer));
  }

  #hangUp() {
    clearTimeout(this.#timer);
    [this.#otherPage, this.#watch, this.#early] = [null, null, []];
    this.#channels.close();
    this.peer?.close();
    this.peer = null;
  }

  #connectionChanged(peer) {
    clearTimeout(this.#timer);
    this.#journal.event("own", "connection", peer.connectionState);
    if (peer.connectionState === "connected") {
      this.#problem(null);
      this.#enter("connected");
      this.limit(this.#maxKbits).catch(() => {});
    } else if (peer.connectionState === "disconnected") {
      this.#problem("mediaLost");
      this.#signaling.check();
      this.#timer = setTimeout(() => this.#then(() => this.#restart()), MENDED_WITHIN);
    } else if (peer.connectionState === "failed") {
      this.#problem("mediaFailed");
      this.#signaling.check();
      this.#then(() => this.#restart());
    }
  }

  /** Whether anything arrives: the browser itself takes five seconds and more to find out. */
  async #look() {
    // The other went while the server was away, so that nobody could tell.
    const isLost = this.#isAlone && this.peer && (this.isInterrupted || this.peer.connectionState !== "connected");
    this.#lostSince = isLost ? (this.#lostSince ?? performance.now()) : null;
    if (this.#lostSince !== null && performance.now() - this.#lostSince > GONE_AFTER) {
      return this.#then(() => this.#otherLeft());
    }
    const [peer, watch] = [this.peer, this.#watch];
    if (peer?.connectionState !== "connected" || !watch) {
      return;
    }
    const report = await peer.getStats();
    // Who has neither a camera nor a microphone any more sends nothing, and says so.
    if (this.other?.muted && this.other.hidden && !this.other.sharing) {
      watch.handleQuiet();
    }
    const packets = [...report.values()].filter((one) => one.type === "inbound-rtp").reduce((sum, one) => sum + one.packetsReceived, 0);
    if (this.#watch === watch && watch.handleSample(packets, performance.now())) {
      this.#journal.event("own", "silence");
      this.#problem("mediaLost");
      this.#signaling.check();
      this.restart();
    } else if (this.#watch === watch && this.#isSilent && !watch.isSilent(performance.now())) {
      this.#problem(null);
    }
    this.#isSilent = watch.isSilent(performance.now());
  }

  #networkChanged() {
    if (this.peer?.remoteDescription) {
      this.#journal.event("own", "networkChange");
      this.#signaling.check();
      this.restart();
    }
  }

  /** Looks for new ways to the other, with fresh credentials. */
  async #restart() {
    const peer = this.peer;
    if (!peer?.remoteDescription && peer?.signalingState !== "have-local-offer") {
      return;
    }
    peer.setConfiguration({ ...peer.getConfiguration(), ...configuration(await this.#iceServers(), this.#way) });
    if (this.peer !== peer) {
      return;
    }
    // One of the two is enough, and two would collide. An old page never asks, so it is not waited for.
    if (this.#isPolite && this.#otherPage) {
      this.#signaling.send({ type: "restart", page: PAGE });
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#then(() => this.#mendAgain(peer)), RESTARTED_WITHIN);
      return;
    }
    peer.restartIce();
    // In the stable state the offer follows by itself; one that was lost on the way is made again.
    if (peer.signalingState === "have-local-offer") {
      await this.#offer();
    }
  }

  #mendAgain(peer) {
    if (this.peer === peer && this.isInterrupted) {
      return this.#restart();
    }
  }

  async #offer() {
    const peer = this.peer;
    if (!peer) {
      return;
    }
    try {
      this.#makesOffer = true;
      const isNew = !peer.remoteDescription;
      await peer.setLocalDescription();
      this.#offers += 1;
      this.#signaling.send({ type: "offer", sdp: peer.localDescription.sdp, page: PAGE, isNew, number: this.#offers });
      this.#described("own");
    } finally {
      this.#makesOffer = false;
    }
  }

  async #iceServers() {
    if (!this.#ice || this.#ice.until < Date.now()) {
      try {
        const response = await fetch("/api/ice", { cache: "no-store", signal: AbortSignal.timeout(3000) });
        this.#keepIce(await response.json());
      } catch {
        // Without any, two people on one network still find each other.
        this.#problem("unavailable");
      }
    }
    return this.#ice?.servers ?? [];
  }

  #sendTracks() {
    sendTracks(this.peer, this.#media);
    this.#channels.sayStatus();
  }

  #described(side) {
    const description = side === "own" ? this.peer?.localDescription : this.peer?.remoteDescription;
    this.#journal.description(side, description?.type, description?.sdp);
    this.dispatchEvent(new Event("description"));
  }
}
