// The own camera, microphone and screen, as two tracks that a call sends.

import { mediaProblem } from "./problems.js";

/** Events: change (of the tracks), status (of what is muted or hidden). */
export class Media extends EventTarget {
  stream = new MediaStream();
  isMuted = false;
  isHidden = false;
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

  /** Whether the own picture is shown as in a mirror: people expect it of themselves, not of a screen or a view. */
  get isMirrored() {
    return !this.isSharing && this.video?.getSettings().facingMode !== "environment";
  }

  /** What the other person should know. */
  get status() {
    return { muted: !this.audio || this.isMuted, hidden: !this.isSharing && (!this.video || this.isHidden), sharing: this.isSharing };
  }

  mute(isMuted) {
    this.isMuted = isMuted;
    this.#apply();
  }

  hide(isHidden) {
    this.isHidden = isHidden;
    this.#apply();
  }

  /** Opens the chosen devices; an empty id stands for none, undefined for the usual one. Gives what went wrong. */
  async open(camera, microphone) {
    if (!navigator.mediaDevices) {
      return "insecure";
    }
    const wish = (id, rest) => (id === "" ? false : { ...rest, ...(id ? { deviceId: { exact: id } } : {}) });
    const video = wish(camera, { width: { ideal: 1280 }, height: { ideal: 720 } });
    const audio = wish(microphone, { echoCancellation: true, noiseSuppression: true, autoGainControl: true });
    let problem = null;
    const get = async (constraints) => {
      try {
        return (await navigator.mediaDevices.getUserMedia(constraints)).getTracks();
      } catch (error) {
        problem = mediaProblem(error);
        return [];
      }
    };
    // Some systems lend a camera to one at a time: the old one is given back first.
    this.#camera?.stop();
    // Both by one question; a machine that lacks one of them is asked for the other alone.
    let tracks = video && audio ? await get({ video, audio }) : [];
    if (tracks.length === 0 && problem !== "denied") {
      problem = null;
      tracks = [...(audio ? await get({ audio }) : []), ...(video ? await get({ video }) : [])];
    }
    this.#replace("audio", tracks.find((track) => track.kind === "audio") ?? null);
    this.#camera = tracks.find((track) => track.kind === "video") ?? null;
    tracks.forEach((track) => track.addEventListener("ended", () => this.#lost(track)));
    if (!this.isSharing) {
      this.#replace("video", this.#camera);
    }
    return problem;
  }

  /** A device was taken away. The other is not to look at a picture that stands still, nor to listen to nobody. */
  #lost(track) {
    if (track === this.#camera) {
      this.#camera = null;
    } else if (track !== this.audio) {
      return;
    }
    if (track === this.audio || track === this.video) {
      this.#replace(track.kind, null);
    }
    this.dispatchEvent(new CustomEvent("problem", { detail: "gone" }));
  }

  /** Shows the screen in place of the camera. Gives what went wrong. */
  async shareScreen() {
    if (!this.canShare) {
      return "noScreen";
    }
    try {
      const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { ideal: 30 } } });
      [this.#screen] = stream.getVideoTracks();
    } catch (error) {
      // Who closes the browser's own dialogue has decided, and knows it.
      return error.name === "NotAllowedError" && !/system/i.test(error.message) ? null : "noScreen";
    }
    // Text should stay sharp when the bit rate is short.
    this.#screen.contentHint = "detail";
    this.#screen.addEventListener("ended", () => this.stopSharing());
    this.#replace("video", this.#screen, false);
    return null;
  }

  stopSharing() {
    this.#screen?.stop();
    this.#screen = null;
    this.#replace("video", this.#camera?.readyState === "live" ? this.#camera : null);
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
    this.#apply();
    this.dispatchEvent(new Event("change"));
  }

  #apply() {
    if (this.audio) {
      this.audio.enabled = !this.isMuted;
    }
    if (this.#camera) {
      this.#camera.enabled = !this.isHidden;
    }
    this.dispatchEvent(new Event("status"));
  }
}
