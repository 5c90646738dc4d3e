// The panel for the curious: where media goes, how well, and what the two pages said to each other. Loaded on demand.

import { CandidatesView } from "./learn-candidates.js";
import { LogView } from "./learn-log.js";
import { PathView } from "./learn-path.js";
import { PlotsView } from "./learn-plots.js";
import { SdpView } from "./learn-sdp.js";
import { TuneView } from "./learn-tune.js";
import { dress, make, say } from "./shell.js";

/** Each tab, in order of how often it is wanted. */
const TABS = [
  ["tabPath", PathView],
  ["tabPlots", PlotsView],
  ["tabLog", LogView],
  ["tabCandidates", CandidatesView],
  ["tabSdp", SdpView],
  ["tabTune", TuneView],
];

/**
 * A view has `node`, `start({call, journal, history})` for a new call, `show()` to draw what there is, and may have
 * `update(report, way)`, which comes about once a second.
 */
export class Learn {
  #views = new Map();
  #tabs = new Map();
  #shown = "tabPath";
  #subject = null;
  #pending = null;

  constructor(root) {
    const list = make("div", "tabs");
    list.setAttribute("role", "tablist");
    list.dataset.label = "panel";
    for (const [key, View] of TABS) {
      const view = new View();
      const tab = make("button", "tab");
      Object.assign(tab, { type: "button", id: `tab-${key}` });
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", `view-${key}`);
      say(tab, key);
      tab.addEventListener("click", () => this.open(key));
      view.node.id = `view-${key}`;
      view.node.classList.add("view");
      view.node.setAttribute("role", "tabpanel");
      view.node.setAttribute("aria-labelledby", tab.id);
      view.node.tabIndex = 0;
      this.#views.set(key, view);
      this.#tabs.set(key, tab);
      list.append(tab);
    }
    list.addEventListener("keydown", ({ key }) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
      if (step) {
        const at = TABS.findIndex(([name]) => name === this.#shown);
        this.open(TABS[(at + step + TABS.length) % TABS.length][0]);
        this.#tabs.get(this.#shown).focus();
      }
    });
    root.replaceChildren(list, ...[...this.#views.values()].map((view) => view.node));
    dress(root);
    this.open(this.#shown);
  }

  open(key) {
    this.#shown = key;
    for (const [name, view] of this.#views) {
      view.node.hidden = name !== key;
      const tab = this.#tabs.get(name);
      tab.setAttribute("aria-selected", String(name === key));
      tab.tabIndex = name === key ? 0 : -1;
    }
    this.#views.get(key).show();
    const tab = this.#tabs.get(key);
    tab.parentElement?.scrollTo?.({ left: tab.offsetLeft - 60, behavior: "smooth" });
  }

  start(subject) {
    for (const view of this.#views.values()) {
      view.start(subject);
    }
    const show = () => subject.journal === this.#subject?.journal && this.#views.get(this.#shown).show();
    this.#subject = subject;
    subject.journal.addEventListener("change", () => {
      // Events come in bursts; once a frame is enough for eyes.
      this.#pending ??= requestAnimationFrame(() => {
        this.#pending = null;
        show();
      });
    });
  }

  update(report, way) {
    for (const [key, view] of this.#views) {
      view.update?.(report, way, key === this.#shown);
    }
  }

  translate() {
    for (const view of this.#views.values()) {
      view.translate?.();
    }
    this.#views.get(this.#shown).show();
  }
}
