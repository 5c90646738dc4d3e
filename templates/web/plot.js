// Small plots of figures over time, drawn as SVG: sharp at any size, coloured by the style sheet.

const SPACE = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [300, 64];

/** The next round number above a value: 1, 2 or 5 times a power of ten. */
export function niceTop(value) {
  if (!(value > 0)) {
    return 1;
  }
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

/** The points of a line through `values`, the last one at the right edge, with room for `kept` of them. */
export function points(values, kept, top, width = WIDTH, height = HEIGHT) {
  const first = kept - values.length;
  return values
    .map((value, at) => [((first + at) * width) / (kept - 1), height - (Math.min(value ?? 0, top) / top) * (height - 4) - 2])
    .map((point) => point.map((part) => part.toFixed(1)).join(","))
    .join(" ");
}

const node = (name, attributes) => {
  const made = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) {
    made.setAttribute(key, value);
  }
  return made;
};

/** A plot of one or two lines; `draw` takes their values. */
export class Plot {
  #lines;
  #areas;
  #kept;
  #floor;

  /** `classes` name the lines for the style sheet; `floor` is the least that the height stands for. */
  constructor(classes, kept, floor) {
    this.#kept = kept;
    this.#floor = floor;
    this.element = node("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "plot", "aria-hidden": "true" });
    for (const at of [0.5, 1]) {
      this.element.append(node("line", { x1: 0, x2: WIDTH, y1: HEIGHT * at - 1, y2: HEIGHT * at - 1, class: "grid" }));
    }
    this.#areas = classes.map((name) => node("polygon", { class: `area ${name}` }));
    this.#lines = classes.map((name) => node("polyline", { class: `line ${name}` }));
    this.element.append(...this.#areas, ...this.#lines);
  }

  /** Gives what the height of the plot stands for now. */
  draw(...series) {
    const top = niceTop(Math.max(this.#floor, ...series.flat().map((value) => value ?? 0)));
    series.forEach((values, at) => {
      const line = points(values, this.#kept, top);
      const start = (((this.#kept - values.length) * WIDTH) / (this.#kept - 1)).toFixed(1);
      this.#lines[at].setAttribute("points", line);
      this.#areas[at].setAttribute("points", values.length ? `${start},${HEIGHT} ${line} ${WIDTH},${HEIGHT}` : "");
    });
    return top;
  }
}
