// The session descriptions of both sides, and what changed in them since the last negotiation.

import { count, difference, meaning, sections } from "./sdp.js";
import { make, number, say, text } from "./shell.js";

const SIGNS = { added: "+", removed: "−", same: " " };

export class SdpView {
  node = make("div");
  #journal = null;
  #side = "own";
  #isWhole = false;
  #drawn = "";

  constructor() {
    this.sides = make("div", "segments");
    for (const side of ["own", "other"]) {
      const button = make("button", "segment");
      button.type = "button";
      say(button, side === "own" ? "sdpOwn" : "sdpOther");
      button.addEventListener("click", () => {
        this.#side = side;
        this.show();
      });
      button.dataset.side = side;
      this.sides.append(button);
    }
    this.whole = make("input");
    this.whole.type = "checkbox";
    const words = make("span");
    say(words, "sdpWhole");
    this.whole.addEventListener("change", () => {
      this.#isWhole = this.whole.checked;
      this.show();
    });
    this.summary = make("p", "faint");
    this.tick = make("label", "tick", this.whole, words);
    this.text = make("pre", "sdp");
    this.text.tabIndex = 0;
    this.node.append(this.sides, this.summary, this.tick, this.text);
  }

  start({ journal }) {
    this.#journal = journal;
    this.#drawn = "";
  }

  translate() {
    this.#drawn = "";
  }

  show() {
    const [now, before] = this.#journal?.lastTwo(this.#side) ?? [];
    for (const button of this.sides.children) {
      button.setAttribute("aria-pressed", String(button.dataset.side === this.#side));
    }
    const state = [this.#side, this.#isWhole, now?.at, before?.at].join();
    if (state === this.#drawn) {
      return;
    }
    this.#drawn = state;
    this.tick.hidden = !before;
    if (!now) {
      this.summary.textContent = text("sdpNone");
      this.text.replaceChildren();
      this.text.hidden = true;
      return;
    }
    this.text.hidden = false;
    const changes = difference(before?.sdp ?? now.sdp, now.sdp);
    const media = sections(now.sdp).map(({ kind, direction, codecs }) => [kind, direction, codecs[0]].filter(Boolean).join(" "));
    const what = before ? text("sdpChanged", count(changes)) : text("sdpFirst");
    this.summary.textContent = `${now.type}, ${number(now.at / 1000, 2)} s: ${media.join("; ")}. ${what}`;
    const kept = before && !this.#isWhole ? near(changes) : changes;
    this.text.replaceChildren(
      ...kept.map((change) => {
        if (!change) {
          return make("span", "gap", "⋯\n");
        }
        const line = make("span", change.kind, `${SIGNS[change.kind]} ${change.line}\n`);
        const key = meaning(change.line);
        if (key) {
          line.title = text(key);
        }
        return line;
      }),
    );
  }
}

/** The changes with two lines around each; null stands for what is left out. */
function near(changes) {
  const isNear = changes.map((_, at) => changes.slice(Math.max(0, at - 2), at + 3).some(({ kind }) => kind !== "same"));
  const out = [];
  changes.forEach((change, at) => {
    if (isNear[at]) {
      out.push(change);
    } else if (out.at(-1) !== null) {
      out.push(null);
    }
  });
  return out;
}
