// What a connection is worth: the path it takes, bit rates, loss and delay, once a second.

const KEPT_SECONDS = 60;

/** The candidate pair that is in use, with both candidates. */
export function selectedPair(report) {
  const all = [...report.values()];
  const transport = all.find((one) => one.type === "transport" && one.selectedCandidatePairId);
  const nominated = all.find((one) => one.type === "candidate-pair" && one.nominated && one.state === "succeeded");
  const pair = transport ? report.get(transport.selectedCandidatePairId) : nominated;
  return pair && { pair, local: report.get(pair.localCandidateId), remote: report.get(pair.remoteCandidateId) };
}

export class Meter {
  #before = null;
  rates = [];

  /** Reads a report; gives what is new since the last one. */
  read(report) {
    const all = [...report.values()];
    const sum = (type, field) => all.filter((one) => one.type === type).reduce((total, one) => total + (one[field] ?? 0), 0);
    const selected = selectedPair(report);
    const now = {
      at: performance.now(),
      up: sum("outbound-rtp", "bytesSent"),
      down: sum("inbound-rtp", "bytesReceived"),
      lost: sum("inbound-rtp", "packetsLost"),
      got: sum("inbound-rtp", "packetsReceived"),
    };
    const before = this.#before ?? now;
    this.#before = now;
    const seconds = (now.at - before.at) / 1000;
    const rate = (field) => (seconds > 0 ? Math.max(0, ((now[field] - before[field]) * 8) / 1000 / seconds) : 0);
    const [lost, got] = [now.lost - before.lost, now.got - before.got];
    this.rates = [...this.rates, { up: rate("up"), down: rate("down") }].slice(-KEPT_SECONDS);
    const picture = all.find((one) => one.type === "inbound-rtp" && one.kind === "video");
    const codec = picture && report.get(picture.codecId);
    return {
      ...this.rates.at(-1),
      loss: lost + got > 0 ? Math.max(0, (100 * lost) / (lost + got)) : 0,
      roundTrip: selected?.pair.currentRoundTripTime,
      kinds: selected && [selected.local?.candidateType, selected.remote?.candidateType],
      protocol: selected?.local?.relayProtocol ?? selected?.local?.protocol,
      picture: picture?.frameWidth && `${picture.frameWidth}×${picture.frameHeight}, ${picture.framesPerSecond ?? 0} fps`,
      codec: codec?.mimeType.replace("video/", ""),
    };
  }

  /** Draws the last minute: sent and received, in kbit/s. */
  draw(canvas) {
    const context = canvas.getContext("2d");
    const { width, height } = canvas;
    const style = getComputedStyle(canvas);
    const top = Math.max(100, ...this.rates.flatMap(({ up, down }) => [up, down])) * 1.15;
    context.clearRect(0, 0, width, height);
    context.font = "22px sans-serif";
    context.fillStyle = style.getPropertyValue("--faint");
    context.fillText(`${Math.round(top)} kbit/s`, 8, 26);
    for (const [field, colour] of [["up", "--up"], ["down", "--down"]]) {
      context.strokeStyle = style.getPropertyValue(colour);
      context.lineWidth = 4;
      context.beginPath();
      this.rates.forEach((rate, second) => {
        const x = width - ((this.rates.length - 1 - second) * width) / (KEPT_SECONDS - 1);
        context.lineTo(x, height - 4 - ((height - 8) * rate[field]) / top);
      });
      context.stroke();
    }
  }
}
