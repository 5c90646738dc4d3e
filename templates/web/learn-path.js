// The way of the media, drawn as a line with stations, and the figures of the moment.

import { icon } from "./icons.js";
import { make, number, text } from "./shell.js";

const NAMES = { you: "stationYou", nat: "stationNat", relay: "stationRelay", other: "stationOther" };
const KINDS = { host: "viaHost", nat: "viaNat", relay: "viaRelay" };
const LIMITS = { bandwidth: "limitBandwidth", cpu: "limitCpu", other: "limitOther" };

export class PathView {
  node = make("div");
  #title = make("p", "path-kind");
  #hint = make("p", "faint");
  #line = make("ol", "path");
  #facts = make("dl", "facts");
  #history = null;
  #report = null;
  #way = null;

  constructor() {
    this.#facts.id = "facts";
    this.node.append(this.#title, this.#hint, this.#line, this.#facts);
  }

  start({ history }) {
    [this.#history, this.#report, this.#way] = [history, null, null];
    this.show();
  }

  update(report, way, isShown) {
    [this.#report, this.#way] = [report, way];
    if (isShown) {
      this.show();
    }
  }

  show() {
    const way = this.#way;
    this.#title.textContent = text(way ? KINDS[way.kind] : "pathNone");
    this.#hint.textContent = way ? text({ host: "hintHost", nat: "hintNat", relay: "hintRelay" }[way.kind]) : text("pathNoneHint");
    this.#line.replaceChildren(...(way ? way.stations.flatMap((station, at) => this.#station(station, way.legs[at])) : []));
    this.#facts.replaceChildren(...this.#rows().flatMap(([key, value]) => [make("dt", "", text(key)), make("dd", "", value)]));
  }

  #station({ kind, address, type, url, hidden }, leg) {
    const words = make("div", "station-words", make("b", "", text(NAMES[kind])));
    const place = address ?? (hidden ? text("addressHidden") : null);
    if (place) {
      words.append(make("code", "", place));
    }
    if (type === "prflx") {
      words.append(make("span", "faint", text("stationPrflx")));
    }
    if (url) {
      words.append(make("span", "faint", url));
    }
    const out = [make("li", `station ${kind}`, make("span", "station-icon", icon(kind)), words)];
    if (leg) {
      out.push(make("li", "leg", make("span", "chip", leg.protocol.toUpperCase())));
    }
    return out;
  }

  #rows() {
    const last = this.#history?.all.at(-1);
    if (!last || !this.#way) {
      return [];
    }
    const rate = (value) => `${number(value)} kbit/s`;
    const picture = ({ width, height, fps, codec }) => (width ? `${width}×${height}, ${number(fps)} fps${codec ? `, ${codec}` : ""}` : "–");
    const all = [...(this.#report?.values() ?? [])];
    const transport = all.find((one) => one.type === "transport");
    const rows = [
      ["factRoundTrip", last.roundTrip === null ? "–" : `${number(last.roundTrip, last.roundTrip < 10 ? 1 : 0)} ms`],
      ["factUp", `${rate(last.up.rate)} · ${picture(last.up)}`],
      ["factDown", `${rate(last.down.rate)} · ${picture(last.down)}`],
      ["factLoss", `↑ ${number(last.up.loss, 1)} % · ↓ ${number(last.down.loss, 1)} %`],
    ];
    if (last.available) {
      rows.push(["factAvailable", rate(last.available)]);
    }
    if (LIMITS[last.limitedBy]) {
      rows.push(["factLimit", text(LIMITS[last.limitedBy])]);
    }
    if (transport?.srtpCipher || transport?.dtlsCipher) {
      rows.push(["factCipher", [transport.srtpCipher, transport.dtlsCipher].filter(Boolean).join(", ")]);
    }
    return rows;
  }
}
