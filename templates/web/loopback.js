// A call of the page with itself through the relay, by one transport: how fast, how soon, and what gets lost.

import { configuration } from "./servers.js";
import { probes } from "./verdicts.js";

/** Milliseconds for the connection, for probes on the idle line, and for as much data as goes through. */
const CONNECTED_WITHIN = 8000;
const PROBED_FOR = 2000;
const FILLED_FOR = 3000;
const PROBE_EVERY = 25;
const CHUNK = 16 * 1024;
const FULL = 1024 * 1024;
/** Milliseconds that the last probe may take to come back. */
const STRAGGLERS = 700;

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/**
 * Measures by "udp", "tcp" or "tls"; `told(key)` hears of each step. Gives {mbits, roundTrip, loss}, or {problem, errors}
 * where no data came through.
 */
export async function loopback(servers, transport, told) {
  const wanted = configuration(servers, transport);
  if (wanted.iceServers.length === 0) {
    return { problem: "loopNoUrl", errors: [] };
  }
  const errors = [];
  let ends = [];
  try {
    ends = [0, 1].map(() => new RTCPeerConnection(wanted));
  } catch {
    return { problem: "loopBadUrl", errors };
  }
  try {
    ends.forEach((end, index) => {
      end.onicecandidateerror = ({ errorCode, errorText, url }) => errors.push({ errorCode, errorText, url });
      end.onicecandidate = ({ candidate }) => candidate && ends[1 - index].addIceCandidate(candidate).catch(() => {});
    });
    told("loopConnecting");
    const [probe, bulk] = [ends[0].createDataChannel("probe", { ordered: false, maxRetransmits: 0 }), ends[0].createDataChannel("bulk")];
    let received = 0;
    ends[1].ondatachannel = ({ channel }) => {
      channel.binaryType = "arraybuffer";
      channel.onmessage = ({ data }) => {
        if (channel.label === "probe") {
          channel.send(data);
        } else {
          received += data.byteLength;
        }
      };
    };
    const open = Promise.all([probe, bulk].map((channel) => new Promise((done) => (channel.onopen = done))));
    await ends[0].setLocalDescription();
    await ends[1].setRemoteDescription(ends[0].localDescription);
    await ends[1].setLocalDescription();
    await ends[0].setRemoteDescription(ends[1].localDescription);
    if (!(await Promise.race([open.then(() => true), pause(CONNECTED_WITHIN)]))) {
      return { problem: "loopFails", errors };
    }

    told("loopProbing");
    const sentAt = [];
    const trips = [];
    probe.onmessage = ({ data }) => trips.push(performance.now() - sentAt[Number(data)]);
    const end = performance.now() + PROBED_FOR;
    while (performance.now() < end && probe.readyState === "open") {
      probe.send(String(sentAt.push(performance.now()) - 1));
      await pause(PROBE_EVERY);
    }
    await pause(STRAGGLERS);
    const idle = probes(sentAt.length, trips);
    if (trips.length === 0) {
      return { problem: "loopFails", errors };
    }

    told("loopFilling");
    const start = performance.now();
    const chunk = new Uint8Array(CHUNK);
    bulk.bufferedAmountLowThreshold = FULL / 2;
    while (performance.now() - start < FILLED_FOR && bulk.readyState === "open") {
      if (bulk.bufferedAmount > FULL) {
        await Promise.race([new Promise((done) => (bulk.onbufferedamountlow = done)), pause(100)]);
      } else {
        bulk.send(chunk);
      }
    }
    const seconds = (performance.now() - start) / 1000;
    return { ...idle, mbits: (received * 8) / 1e6 / seconds, errors };
  } catch (error) {
    return { problem: "loopFails", errors: [...errors, { errorText: String(error.message ?? error) }] };
  } finally {
    ends.forEach((end) => end.close());
  }
}
