// The chat beside a call: lines of text, and files with their progress.

import { MAX_LINE } from "./channels.js";
import { icon, setIcon } from "./icons.js";
import { element, label, languageListeners, make, number, say, text } from "./shell.js";

const UNITS = ["B", "KB", "MB", "GB", "TB"];

/** A size as people read it. */
export function size(bytes) {
  const power = bytes > 0 ? Math.min(UNITS.length - 1, Math.floor(Math.log10(bytes) / 3)) : 0;
  return `${number(bytes / 1000 ** power, power > 1 ? 1 : 0)} ${UNITS[power]}`;
}

/** Lets words run in the direction of their own letters. */
function directed(node) {
  node.dir = "auto";
  return node;
}

export class Chat {
  #call = null;
  #transfers = null;
  #entries = new Map();

  constructor() {
    element("chat-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    element("attach").addEventListener("click", () => element("file").click());
    element("file").addEventListener("change", () => {
      this.#sendFiles(element("file").files);
      element("file").value = "";
    });
    for (const event of ["dragover", "drop"]) {
      element("call").addEventListener(event, (drag) => {
        if ([...(drag.dataTransfer?.types ?? [])].includes("Files")) {
          drag.preventDefault();
          if (event === "drop") {
            this.#sendFiles(drag.dataTransfer.files);
          }
        }
      });
    }
    element("chat-text").addEventListener("paste", ({ clipboardData }) => this.#sendFiles(clipboardData?.files ?? []));
    languageListeners.add(() => this.#entries.forEach((entry) => entry.show()));
  }

  /** Begins anew with a call. */
  start(call, transfers) {
    [this.#call, this.#transfers] = [call, transfers];
    this.#entries.clear();
    element("chat-log").replaceChildren();
    element("chat-empty").hidden = false;
    call.addEventListener("chat", ({ detail }) => this.#call === call && this.#line(detail));
    transfers.addEventListener("change", ({ detail }) => this.#transfers === transfers && this.#file(detail));
    this.read();
  }

  read() {
    element("unread").hidden = true;
  }

  #send() {
    const words = element("chat-text").value.trim();
    if (words.length > MAX_LINE) {
      this.#aside("chatLong");
    } else if (words && this.#call?.say(words)) {
      element("chat-text").value = "";
    } else if (words) {
      this.#aside("chatNobody");
    }
  }

  #sendFiles(files) {
    for (const file of files) {
      this.#transfers?.send(file);
    }
  }

  #add(line, isFromOther) {
    element("chat-empty").hidden = true;
    element("chat-log").append(line);
    line.scrollIntoView({ block: "nearest" });
    if (isFromOther && element("chat").hidden) {
      element("unread").hidden = false;
    }
  }

  #aside(key) {
    const line = make("li", "aside");
    say(line, key);
    this.#add(line, false);
  }

  #line({ from, text: words }) {
    const name = make("b", "name");
    say(name, from);
    this.#add(make("li", from, name, directed(make("p", "bubble", words))), from === "other");
  }

  #file(item) {
    if (!this.#entries.has(item.id)) {
      const entry = new Entry(item, this.#transfers);
      this.#entries.set(item.id, entry);
      this.#add(entry.node, item.way === "in");
    }
    this.#entries.get(item.id).show();
  }
}

/** One file in the log. */
class Entry {
  #item;
  #state = make("p", "file-state");
  #bar = make("progress", "");
  #buttons = make("div", "file-buttons");
  #shown = "";

  constructor(item, transfers) {
    this.#item = item;
    const name = make("b", "name");
    say(name, item.way === "out" ? "you" : "other");
    const title = make("p", "file-name", icon("file"), directed(make("span", "", item.name)));
    title.title = item.name;
    this.#bar.max = 1;
    this.#bar.setAttribute("aria-label", item.name);
    this.node = make("li", item.way === "out" ? "you" : "other", name, make("div", "bubble file", title, this.#state, this.#bar, this.#buttons));
    this.transfers = transfers;
  }

  show() {
    const { state, way, size: whole, done, problem, since, endedAt } = this.#item;
    const seconds = ((endedAt ?? performance.now()) - since) / 1000;
    const values = { done: size(done), size: size(whole), rate: `${size(seconds > 0 ? done / seconds : 0)}/s` };
    const key = state === "failed" ? (problem ?? "fileFailed") : { out: { offered: "fileOffered" }, in: { offered: "fileAsked" } }[way][state] ?? `file_${state}`;
    this.#state.textContent = text(key, values);
    this.#bar.hidden = !["moving", "paused", "checking"].includes(state);
    this.#bar.value = whole > 0 ? done / whole : 1;
    const wanted = `${state} ${document.documentElement.lang}`;
    if (wanted !== this.#shown) {
      this.#shown = wanted;
      this.#buttons.replaceChildren(...this.#choices());
    }
    this.node.dataset.state = state;
  }

  #choices() {
    const { id, state, way, result, name } = this.#item;
    const button = (key, picture, act, className = "small") => {
      const node = make("button", className);
      node.type = "button";
      node.append(make("span", "", text(key)));
      setIcon(node, picture);
      node.addEventListener("click", act);
      return node;
    };
    const cancel = (key) => {
      const node = button(key, "close", () => this.transfers.cancel(id), "small quiet");
      label(node, key);
      return node;
    };
    if (state === "offered" && way === "in") {
      return [button("fileAccept", "download", () => this.transfers.accept(id), "small primary"), cancel("fileDecline")];
    }
    if (["offered", "moving", "paused"].includes(state)) {
      return [cancel("fileCancel")];
    }
    if (state === "done" && result?.url) {
      const link = make("a", "button small primary", icon("download"), make("span", "", text("fileSave")));
      [link.href, link.download] = [result.url, name];
      return [link];
    }
    return [];
  }
}
