// Live plots of a call, both directions in each.

import { Plot } from "./plot.js";
import { make, number, say, text } from "./shell.js";

/** Seconds that a plot shows; it gets a value a second. */
const SHOWN = 120;

/** Each plot: its name, unit, the least height, digits, and what it reads from the figures for both lines. */
const PLOTS = [
  { key: "plotRate", unit: "kbit/s", floor: 100, digits: 0, read: [({ up }) => up.rate, ({ down }) => down.rate] },
  { key: "plotLoss", unit: "%", floor: 5, digits: 1, read: [({ up }) => up.loss, ({ down }) => down.loss] },
  { key: "plotDelay", unit: "ms", floor: 20, digits: 0, read: [({ roundTrip }) => roundTrip] },
  { key: "plotJitter", unit: "ms", floor: 20, digits: 1, read: [({ up }) => up.jitter, ({ down }) => down.jitter] },
  { key: "plotFrames", unit: "fps", floor: 30, digits: 0, read: [({ up }) => up.fps, ({ down }) => down.fps] },
  { key: "plotHeight", unit: "px", floor: 360, digits: 0, read: [({ up }) => up.height, ({ down }) => down.height] },
];

export class PlotsView {
  node = make("div", "plots");
  #history = null;
  #drawn;

  constructor() {
    const span = make("p", "faint");
    say(span, "plotSpan");
    this.node.append(span);
    this.#drawn = PLOTS.map((what) => {
      const plot = new Plot(what.read.length === 2 ? ["up", "down"] : ["both"], SHOWN, what.floor);
      const [title, now, top] = [make("span"), make("span", "now"), make("span", "top")];
      this.node.append(make("figure", "figure", make("figcaption", "", title, now), make("div", "frame", plot.element, top)));
      return { ...what, plot, title, now, top };
    });
  }

  start({ history }) {
    this.#history = history;
    this.show();
  }

  update(report, way, isShown) {
    if (isShown) {
      this.show();
    }
  }

  show() {
    const all = this.#history?.all ?? [];
    for (const { key, unit, digits, read, plot, title, now, top } of this.#drawn) {
      title.textContent = text(key);
      const series = read.map((of) => all.map(of));
      const height = plot.draw(...series);
      top.textContent = `${number(height)} ${unit}`;
      const values = series.map((values) => values.at(-1));
      const words = (value) => (value === undefined || value === null ? "–" : number(value, digits));
      const marks = read.length === 2 ? [make("i", "up", `↑ ${words(values[0])}`), " ", make("i", "down", `↓ ${words(values[1])}`)] : [make("i", "both", words(values[0]))];
      now.replaceChildren(...marks, ` ${unit}`);
    }
  }
}
