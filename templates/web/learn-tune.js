// What can be changed in a running call to see what happens, and the report of it all.

import { report } from "./report.js";
import { WAYS } from "./servers.js";
import { dress, element, make, say, text } from "./shell.js";

const LIMITS = [0, 4000, 2000, 1000, 500, 250, 100];
const WAY_NAMES = { any: "wayAny", relay: "wayRelay", udp: "wayUdp", tcp: "wayTcp", tls: "wayTls" };

function choice(key, hint, id) {
  const [label, select, words] = [make("label"), make("select"), hint && make("p", "faint")];
  Object.assign(select, { id });
  label.htmlFor = id;
  say(label, key);
  if (hint) {
    say(words, hint);
  }
  return { select, node: make("div", "choice", label, select, words) };
}

/** A second way to a choice of the lobby, in the middle of a call. */
function deviceChoice(id) {
  const { select, node } = choice(id, null, `${id}-now`);
  select.addEventListener("change", () => {
    element(id).value = select.value;
    element(id).dispatchEvent(new Event("change"));
  });
  let shown = "";
  const show = () => {
    const options = [...element(id).options];
    const words = options.map((option) => `${option.value} ${option.text}`).join("\n");
    // An open list must not change under somebody's finger.
    if (words !== shown) {
      shown = words;
      select.replaceChildren(...options.map((option) => option.cloneNode(true)));
    }
    select.value = element(id).value;
  };
  return { node, show };
}

export class TuneView {
  node = make("div");
  #subject = null;
  #devices = ["camera", "microphone"].map(deviceChoice);

  constructor() {
    const [limit, codec, way] = [choice("tuneLimit", "tuneLimitHint", "bandwidth"), choice("tuneCodec", "tuneCodecHint", "codec"), choice("way", "wayHint", "force")];
    const none = new Option("", "0");
    none.dataset.text = "unlimited";
    limit.select.append(none, ...LIMITS.slice(1).map((kbits) => new Option(`${kbits} kbit/s`, kbits)));
    limit.select.addEventListener("change", () => this.#subject?.call.limit(Number(limit.select.value)).catch(() => {}));

    const usual = new Option("", "");
    usual.dataset.text = "usual";
    codec.select.append(usual, ...codecs().map((name) => new Option(name, name)));
    codec.select.addEventListener("change", () => this.#subject?.call.prefer(codec.select.value));
    codec.select.disabled = codecs().length === 0;

    for (const name of WAYS) {
      const option = new Option("", name);
      option.dataset.text = WAY_NAMES[name];
      way.select.append(option);
    }
    way.select.addEventListener("change", () => {
      element("way").value = way.select.value;
      this.#subject?.call.force(way.select.value);
    });
    const button = (key, act) => {
      const made = make("button");
      made.type = "button";
      say(made, key);
      made.addEventListener("click", act);
      return made;
    };
    this.node.append(
      way.node,
      limit.node,
      codec.node,
      ...this.#devices.map(({ node }) => node),
      make("div", "row", button("restartIce", () => this.#subject?.call.restart()), button("exportReport", () => this.#export())),
    );
    Object.assign(this, { way: way.select, limit: limit.select, codec: codec.select });
    dress(this.node);
  }

  start(subject) {
    this.#subject = subject;
    [this.way.value, this.limit.value, this.codec.value] = [element("way").value, "0", ""];
  }

  show() {
    this.#devices.forEach((device) => device.show());
  }

  async #export() {
    const { call, journal, history } = this.#subject ?? {};
    const stats = [...((await call?.peer?.getStats())?.values() ?? [])];
    const words = JSON.stringify(report({ call, journal, history, stats, agent: navigator.userAgent, at: new Date().toISOString() }), null, 2);
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([words], { type: "application/json" }));
    link.download = `rtcctl-${text("reportName")}-${new Date().toISOString().slice(0, 19).replace(/:/g, "")}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }
}

function codecs() {
  const known = globalThis.RTCRtpSender?.getCapabilities?.("video")?.codecs ?? [];
  const names = known.map(({ mimeType }) => mimeType.split("/")[1]).filter((name) => !/^(rtx|red|ulpfec|flexfec.*)$/i.test(name));
  return typeof RTCRtpTransceiver !== "undefined" && "setCodecPreferences" in RTCRtpTransceiver.prototype ? [...new Set(names)] : [];
}
