// During a call: the two pictures, what is known of the other, and the buttons.

import { setIcon } from "./icons.js";
import { HIDE, MUTE, canChooseSpeaker, showSwitch } from "./lobby.js";
import { element, notice, say } from "./shell.js";

const SCREEN = { iconOn: "screenOff", iconOff: "screen", labelOn: "screenStop", labelOff: "screen" };

export class Stage {
  #media;
  #remote = element("remote");

  constructor(media) {
    this.#media = media;
    element("mute").addEventListener("click", () => media.mute(!media.isMuted));
    element("hide").addEventListener("click", () => media.hide(!media.isHidden));
    element("screen").addEventListener("click", () => this.#switchScreen());
    element("pip").addEventListener("click", () => this.#switchPip());
    element("pip").hidden = !(document.pictureInPictureEnabled || this.#remote.webkitSupportsPresentationMode?.("picture-in-picture"));
    media.addEventListener("change", () => this.showOwn());
    media.addEventListener("status", () => this.showOwn());
    addEventListener("keydown", (event) => this.#key(event));
    this.showOwn();
  }

  /** Takes a track of the other. */
  play(track, speaker) {
    const remote = this.#remote;
    const others = (remote.srcObject?.getTracks() ?? []).filter((old) => old.kind !== track.kind);
    remote.srcObject = new MediaStream([...others, track]);
    if (canChooseSpeaker && speaker) {
      remote.setSinkId(speaker).catch(() => {});
    }
    remote.play().catch((error) => {
      if (error.name === "NotAllowedError") {
        notice("tapToHear", { mood: "info", act: { key: "play", run: () => remote.play().then(() => notice(null)) } });
      }
    });
  }

  clear() {
    this.#remote.srcObject = null;
    this.showOther(null);
    if (document.pictureInPictureElement) {
      document.exitPictureInPicture().catch(() => {});
    }
  }

  /** Shows what the other tells: {muted, hidden, sharing}, or null. */
  showOther(other) {
    element("other-muted").hidden = !other?.muted;
    element("other-sharing").hidden = !other?.sharing;
    element("veil").hidden = !other?.hidden;
    this.#remote.classList.toggle("covered", Boolean(other?.hidden));
  }

  showOwn() {
    const media = this.#media;
    const local = element("local");
    // A stream without a picture would keep the page from ever being loaded.
    const stream = media.video ? media.stream : null;
    if (local.srcObject !== stream) {
      local.srcObject = stream;
    }
    local.hidden = media.status.hidden;
    local.classList.toggle("mirrored", media.isMirrored);
    showSwitch(element("mute"), !media.audio || media.isMuted, MUTE);
    showSwitch(element("hide"), !media.isSharing && (!media.video || media.isHidden), HIDE);
    showSwitch(element("screen"), media.isSharing, SCREEN);
    element("mute").disabled = !media.audio;
    element("hide").disabled = !media.video || media.isSharing;
    element("screen").disabled = !media.canShare;
  }

  async #switchScreen() {
    if (this.#media.isSharing) {
      this.#media.stopSharing();
    } else {
      const problem = await this.#media.shareScreen();
      if (problem) {
        notice(problem);
      }
    }
  }

  async #switchPip() {
    const remote = this.#remote;
    try {
      if (document.pictureInPictureElement) {
        await document.exitPictureInPicture();
      } else if (remote.requestPictureInPicture) {
        await remote.requestPictureInPicture();
      } else {
        remote.webkitSetPresentationMode("picture-in-picture");
      }
    } catch {
      notice("noPip");
    }
  }

  /** One letter each, as in other calls, unless somebody is typing or wants none of it. */
  #key({ key, target, ctrlKey, metaKey, altKey }) {
    const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) || target.isContentEditable;
    if (element("call").hidden || ctrlKey || metaKey || altKey) {
      return;
    }
    if (key === "Escape") {
      return ["chat", "panel"].filter((side) => !element(side).hidden).forEach((side) => element(`${side}-close`).click());
    }
    if (isTyping || !element("keys").checked) {
      return;
    }
    const id = { m: "mute", v: "hide", s: "screen", c: "chat-toggle", d: "panel-toggle" }[key.toLowerCase()];
    if (id && !element(id).disabled) {
      element(id).click();
    }
  }

  /** Shows how good the connection is: words, and a grade from 3 to 1. */
  badge(words, grade) {
    const node = element("badge");
    node.hidden = !words;
    node.dataset.grade = grade ?? "";
    node.textContent = words ?? "";
  }
}

/** Opens one of the panels beside the stage, and closes the other. */
export function openSide(id) {
  for (const [side, toggle] of [["chat", "chat-toggle"], ["panel", "panel-toggle"]]) {
    const isOpen = side === id && element(side).hidden;
    if (!isOpen && element(side).contains(document.activeElement)) {
      // What has the focus is about to go.
      element(toggle).focus();
    }
    element(side).hidden = !isOpen;
    element(toggle).setAttribute("aria-expanded", String(isOpen));
  }
  return !element(id).hidden;
}

/** Copies the link; says that it did. */
export async function copyLink(link) {
  try {
    await navigator.clipboard.writeText(link);
  } catch {
    getSelection().selectAllChildren(element("link"));
    if (!document.execCommand("copy")) {
      return;
    }
  }
  const words = element("copy-words");
  say(words, "copied");
  setIcon(element("copy").querySelector("[data-icon]"), "check");
  setTimeout(() => {
    say(words, "copy");
    setIcon(element("copy").querySelector("[data-icon]"), "copy");
  }, 2000);
}
