// What getStats says, as figures: bit rates, loss, delay, pictures, for both directions. Decides only.

/** The candidate pair that is in use, with both candidates; undefined while there is none. */
export function selectedPair(report) {
  const all = [...report.values()];
  const transport = all.find((one) => one.type === "transport" && one.selectedCandidatePairId);
  // Firefox names no pair in the transport.
  const nominated = all.find((one) => one.type === "candidate-pair" && one.nominated && one.state === "succeeded");
  const pair = transport ? report.get(transport.selectedCandidatePairId) : nominated;
  return pair && { pair, local: report.get(pair.localCandidateId), remote: report.get(pair.remoteCandidateId) };
}

/** The totals of a report at a moment in milliseconds. */
export function totals(report, at) {
  const all = [...report.values()];
  const of = (type) => all.filter((one) => one.type === type);
  const sum = (type, field) => of(type).reduce((total, one) => total + (one[field] ?? 0), 0);
  const picture = (type) => of(type).filter((one) => one.kind === "video").sort((a, b) => (b.bytesSent ?? b.bytesReceived ?? 0) - (a.bytesSent ?? a.bytesReceived ?? 0))[0];
  const worst = (type, field) => Math.max(0, ...of(type).map((one) => one[field] ?? 0));
  const direction = (stream, extra) => ({
    width: stream?.frameWidth ?? 0,
    height: stream?.frameHeight ?? 0,
    fps: stream?.framesPerSecond ?? 0,
    codec: (stream && report.get(stream.codecId)?.mimeType?.replace(/^video\//, "")) ?? null,
    ...extra,
  });
  const selected = selectedPair(report);
  const up = picture("outbound-rtp");
  return {
    at,
    up: direction(up, {
      bytes: sum("outbound-rtp", "bytesSent"),
      packets: sum("outbound-rtp", "packetsSent"),
      lost: sum("remote-inbound-rtp", "packetsLost"),
      jitter: worst("remote-inbound-rtp", "jitter"),
      limitedBy: up?.qualityLimitationReason ?? null,
    }),
    down: direction(picture("inbound-rtp"), {
      bytes: sum("inbound-rtp", "bytesReceived"),
      packets: sum("inbound-rtp", "packetsReceived"),
      lost: sum("inbound-rtp", "packetsLost"),
      jitter: worst("inbound-rtp", "jitter"),
      dropped: sum("inbound-rtp", "framesDropped"),
    }),
    roundTrip: selected?.pair.currentRoundTripTime ?? null,
    available: selected?.pair.availableOutgoingBitrate ?? null,
  };
}

/** What happened between two totals: rates in kbit/s, loss in %, times in milliseconds. */
export function figures(before, now) {
  const seconds = (now.at - before.at) / 1000;
  const direction = (side) => {
    const [old, fresh] = [before[side], now[side]];
    const grown = (field) => Math.max(0, fresh[field] - old[field]);
    const [lost, packets] = [grown("lost"), grown("packets")];
    // What was received does not count what was lost on the way; what was sent does.
    const all = side === "down" ? lost + packets : packets;
    return {
      rate: seconds > 0 ? (grown("bytes") * 8) / 1000 / seconds : 0,
      loss: all > 0 ? Math.min(100, (100 * lost) / all) : 0,
      jitter: fresh.jitter * 1000,
      fps: fresh.fps,
      width: fresh.width,
      height: fresh.height,
      codec: fresh.codec,
    };
  };
  return {
    at: now.at,
    up: direction("up"),
    down: direction("down"),
    roundTrip: now.roundTrip === null ? null : now.roundTrip * 1000,
    available: now.available === null ? null : now.available / 1000,
    limitedBy: now.up.limitedBy,
  };
}

/** How good the call is, from 3 (good) to 1 (bad). */
export function grade({ down, up, roundTrip }) {
  const loss = Math.max(down.loss, up.loss);
  if (loss > 8 || roundTrip > 600) {
    return 1;
  }
  return loss > 2 || roundTrip > 250 ? 2 : 3;
}

/** The last figures, a bounded number of them. */
export class History {
  #before = null;
  all = [];

  constructor(kept = 120) {
    this.kept = kept;
  }

  /** Reads a report; gives the figures since the last one, null at the first. */
  read(report, at) {
    const now = totals(report, at);
    const before = this.#before;
    this.#before = now;
    if (!before || now.at <= before.at) {
      return null;
    }
    const fresh = figures(before, now);
    this.all = [...this.all, fresh].slice(-this.kept);
    return fresh;
  }
}
