// The own camera, microphone and screen, as two tracks that a call sends.

/** What went wrong with getUserMedia, as a key of the strings. */
function reason(error) {
  if (error.name === "NotAllowedError" || error.name === "SecurityError") {
    return "denied";
  }
  return error.name === "NotReadableError" || error.name === "AbortError" ? "busy" : "missing";
}

export class Media extends EventTarget {
  stream = new MediaStream();
  #camera = null;
  #screen = null;

  get audio() {
    return this.stream.getAudioTracks()[0] ?? null;
  }

  get video() {
    return this.stream.getVideoTracks()[0] ?? null;
  }

  get isSharing() {
    return this.#screen !== null;
  }

  get canShare() {
    return typeof navigator.mediaDevices?.getDisplayMedia === "function";
  }

  /** Opens the chosen devices; an empty id stands for none, undefined for the usual one. Gives what went wrong. */
  async open(camera, microphone) {
    if (!navigator.mediaDevices) {
      return "insecure";
    }
    const wish = (id, rest) => (id === "" ? false : { ...rest, ...(id ? { deviceId: { exact: id } } : {}) });
    const video = wish(camera, { width: { ideal: 1280 }, height: { ideal: 720 } });
    const audio = wish(microphone, { echoCancellation: true, noiseSuppression: true });
    let problem = null;
    const get = async (constraints) => {
      try {
        return (await navigator.mediaDevices.getUserMedia(constraints)).getTracks();
      } catch (error) {
        problem = reason(error);
        return [];
      }
    };
    // Both by one question; a machine that lacks one of them is asked for the other alone.
    let tracks = video && audio ? await get({ video, audio }) : [];
    if (tracks.length === 0 && problem !== "denied") {
      problem = null;
      tracks = [...(audio ? await get({ audio }) : []), ...(video ? await get({ video }) : [])];
    }
    this.#replace("audio", tracks.find((track) => track.kind === "audio") ?? null);
    this.#camera = tracks.find((track) => track.kind === "video") ?? null;
    if (!this.isSharing) {
      this.#replace("video", this.#camera);
    }
    return problem;
  }

  /** Shows the screen in place of the camera. Gives what went wrong. */
  async shareScreen() {
    if (!this.canShare) {
      return "noScreen";
    }
    try {
      const stream = await navigator.mediaDevices.getDisplayMedia({ video: true });
      [this.#screen] = stream.getVideoTracks();
    } catch (error) {
      // Who closes the browser's own dialogue has decided, and knows it.
      return error.name === "NotAllowedError" ? null : "noScreen";
    }
    this.#screen.addEventListener("ended", () => this.stopSharing());
    this.#replace("video", this.#screen, false);
    return null;
  }

  stopSharing() {
    this.#screen?.stop();
    this.#screen = null;
    this.#replace("video", this.#camera?.readyState === "live" ? this.#camera : null);
  }

  close() {
    this.#screen?.stop();
    this.#screen = null;
    this.#camera?.stop();
    this.#camera = null;
    this.#replace("audio", null);
    this.#replace("video", null);
  }

  #replace(kind, track, stopsOld = true) {
    for (const old of this.stream.getTracks().filter((old) => old.kind === kind && old !== track)) {
      this.stream.removeTrack(old);
      if (stopsOld) {
        old.stop();
      }
    }
    if (track && !this.stream.getTracks().includes(track)) {
      this.stream.addTrack(track);
    }
    this.dispatchEvent(new Event("change"));
  }
}
