// Everything that was said between the page and the server, and what the browser did about it.

import { make, number, text } from "./shell.js";

const ARROWS = { in: "←", out: "→", own: "·" };
const WAYS = { in: "logIn", out: "logOut", own: "logOwn" };

export class LogView {
  node = make("div");
  #list = make("ol", "events");
  #journal = null;
  #shown = 0;

  constructor() {
    this.hint = make("p", "faint");
    this.node.append(this.hint, this.#list);
  }

  start({ journal }) {
    this.#journal = journal;
    this.translate();
  }

  translate() {
    this.#shown = 0;
    this.#list.replaceChildren();
  }

  show() {
    this.hint.textContent = text("logHint");
    const events = this.#journal?.events ?? [];
    if (events.length < this.#shown || events.length >= 400) {
      this.translate();
    }
    const isAtEnd = this.node.scrollHeight - this.node.scrollTop - this.node.clientHeight < 80;
    for (const { at, way, name, detail } of events.slice(this.#shown)) {
      const arrow = make("span", "arrow", ARROWS[way]);
      arrow.title = text(WAYS[way]);
      this.#list.append(make("li", way, make("time", "", number(at / 1000, 2)), arrow, make("b", "", name), make("span", "detail", detail)));
    }
    this.#shown = events.length;
    if (isAtEnd) {
      this.node.scrollTop = this.node.scrollHeight;
    }
  }
}
