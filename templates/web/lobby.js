// Before a call: choosing devices, seeing and hearing oneself, and the room.

import { setIcon } from "./icons.js";
import { LevelMeter, playTone } from "./meter.js";
import { element, label, languageListeners, notice, remember, remembered, text } from "./shell.js";

/** Each select, the kind of its devices, and the name under which the choice is remembered. */
const DEVICES = [
  ["camera", "videoinput"],
  ["microphone", "audioinput"],
  ["speaker", "audiooutput"],
];

export const canChooseSpeaker = typeof HTMLMediaElement.prototype.setSinkId === "function";

/** Shows a switch as it is: its picture, what pressing it does, and whether it is pressed. */
export function showSwitch(node, isOn, { iconOn, iconOff, labelOn, labelOff }) {
  node.setAttribute("aria-pressed", String(isOn));
  setIcon(node, isOn ? iconOn : iconOff);
  label(node, isOn ? labelOn : labelOff);
}

export const MUTE = { iconOn: "micOff", iconOff: "mic", labelOn: "unmute", labelOff: "mute" };
export const HIDE = { iconOn: "cameraOff", iconOff: "camera", labelOn: "show", labelOff: "hide" };

/** A name that is easy to say and hard to guess by chance. */
export function suggestion() {
  const letters = "abcdefghjkmnpqrstuvwxyz23456789";
  const random = crypto.getRandomValues(new Uint8Array(9));
  const name = [...random].map((byte) => letters[byte % letters.length]).join("");
  return `${name.slice(0, 3)}-${name.slice(3, 6)}-${name.slice(6)}`;
}

export class Lobby {
  #media;
  #meter = new LevelMeter();
  #lastProblem = null;

  constructor(media) {
    this.#media = media;
    for (const [id] of DEVICES) {
      element(id).addEventListener("change", () => {
        remember(id, element(id).value);
        if (id !== "speaker") {
          this.open(true);
        }
      });
    }
    element("tone").addEventListener("click", () => playTone(this.speaker).catch(() => notice("noTone")));
    element("preview-mute").addEventListener("click", () => media.mute(!media.isMuted));
    element("preview-hide").addEventListener("click", () => media.hide(!media.isHidden));
    media.addEventListener("change", () => this.#show());
    media.addEventListener("status", () => this.#show());
    navigator.mediaDevices?.addEventListener?.("devicechange", () => this.list());
    languageListeners.add(() => this.list());
    // A tablet or phone has one screen of room: the devices unfold by a tap.
    element("devices").open = matchMedia("(min-width: 52rem)").matches;
    this.#show();
  }

  get speaker() {
    return (canChooseSpeaker && remembered("speaker")) || "";
  }

  /** Opens the devices of the last time, or those that are chosen now. */
  async open(isChosen = false) {
    if (!isSecureContext) {
      return this.tell("insecure");
    }
    const wish = (id) => (isChosen ? element(id).value : (remembered(id) ?? undefined));
    let problem = await this.#media.open(wish("camera"), wish("microphone"));
    if (problem === "gone" && !isChosen) {
      // A device of the last time that is not there today: the usual one takes its place.
      problem = await this.#media.open(wish("camera") === "" ? "" : undefined, wish("microphone") === "" ? "" : undefined);
    }
    this.tell(problem);
    await this.list();
  }

  /** Says what is wrong with the devices, until it is mended. */
  tell(key) {
    if (key !== null) {
      notice(key, { act: { key: "tryAgain", run: () => this.open() } });
    } else if (this.#lastProblem && element("notice").dataset.key === this.#lastProblem) {
      notice(null);
    }
    this.#lastProblem = key;
  }

  async list() {
    const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
    const used = { camera: this.#media.video, microphone: this.#media.audio };
    for (const [id, kind] of DEVICES) {
      const options = devices
        .filter((device) => device.kind === kind && device.deviceId)
        .map((device, index) => new Option(device.label || `${text(id)} ${index + 1}`, device.deviceId));
      if (id === "speaker") {
        const isThere = canChooseSpeaker && options.length > 0;
        element(id).replaceChildren(...(isThere ? options : [new Option(text("usual"), "")]));
        element(id).value = this.speaker || element(id).options[0].value;
      } else {
        element(id).replaceChildren(...options, new Option(text("none"), ""));
        element(id).value = used[id]?.getSettings().deviceId ?? "";
      }
      if (element(id).selectedIndex < 0) {
        element(id).selectedIndex = 0;
      }
    }
  }

  #show() {
    const media = this.#media;
    const isSeen = Boolean(media.video) && !media.status.hidden;
    const stream = media.video ? media.stream : null;
    if (element("preview").srcObject !== stream) {
      element("preview").srcObject = stream;
    }
    element("preview").hidden = !isSeen;
    element("preview").classList.toggle("mirrored", media.isMirrored);
    element("preview-hint").hidden = isSeen;
    showSwitch(element("preview-mute"), !media.audio || media.isMuted, MUTE);
    showSwitch(element("preview-hide"), !media.video || media.isHidden, HIDE);
    element("preview-mute").disabled = !media.audio;
    element("preview-hide").disabled = !media.video;
    this.#meter.follow(media.isMuted ? null : media.audio, (level) => {
      element("level-bar").style.transform = `scaleX(${level.toFixed(3)})`;
      element("level").setAttribute("aria-valuenow", String(Math.round(level * 100)));
    });
  }

  /** Stops what only the lobby needs. */
  close() {
    this.#meter.stop();
  }

  /** Goes on with what `close` stopped. */
  reopen() {
    this.#show();
  }
}
