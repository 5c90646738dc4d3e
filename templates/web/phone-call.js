// A call of the page with itself through the relay, with pictures, for five seconds.

/** Milliseconds for the connection, and for the call. */
const CONNECTED_WITHIN = 10000;
const CALLED_FOR = 5000;
/** Pictures a second of a call without a camera. */
const DRAWN = 20;

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** A picture that moves, for who has no camera. Gives {stream, end}. */
export function drawnStream() {
  const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 240 });
  const brush = canvas.getContext("2d");
  let turn = 0;
  const draw = () => {
    turn += 1;
    brush.fillStyle = `hsl(${(turn * 3) % 360} 60% 45%)`;
    brush.fillRect(0, 0, 320, 240);
    brush.fillStyle = "#fff";
    brush.fillRect((turn * 4) % 320, 90, 60, 60);
  };
  draw();
  const timer = setInterval(draw, 1000 / DRAWN);
  return { stream: canvas.captureStream(DRAWN), end: () => clearInterval(timer) };
}

/**
 * Calls through the relay of `server` alone and shows what arrives in `video`. Gives the figures for `judgeCall`.
 * A round trip of the call goes to the server twice; what is told is that to the server.
 */
export async function callItself(server, stream, video) {
  const ends = [0, 1].map(() => new RTCPeerConnection({ iceServers: [server], iceTransportPolicy: "relay" }));
  const [caller, called] = ends;
  try {
    ends.forEach((end, index) => {
      end.onicecandidate = ({ candidate }) => candidate && ends[1 - index].addIceCandidate(candidate).catch(() => {});
    });
    called.ontrack = ({ streams }) => {
      video.srcObject = streams[0];
      // Without a gesture some browsers wait for one; it is counted all the same what arrives.
      video.play().catch(() => {});
    };
    stream.getTracks().forEach((track) => caller.addTrack(track, stream));
    const connected = new Promise((done) => (caller.onconnectionstatechange = () => caller.connectionState === "connected" && done(true)));
    await caller.setLocalDescription();
    await called.setRemoteDescription(caller.localDescription);
    await called.setLocalDescription();
    await caller.setRemoteDescription(called.localDescription);
    if (!(await Promise.race([connected, pause(CONNECTED_WITHIN)]))) {
      return { problem: "no-connection" };
    }
    await pause(CALLED_FOR);
    return figures(await called.getStats());
  } catch {
    return { problem: "no-connection" };
  } finally {
    video.srcObject = null;
    ends.forEach((end) => end.close());
  }
}

function figures(stats) {
  const all = [...stats.values()];
  const picture = all.find((one) => one.type === "inbound-rtp" && one.kind === "video");
  const pair = stats.get(all.find((one) => one.type === "transport")?.selectedCandidatePairId) ?? all.find((one) => one.type === "candidate-pair" && one.nominated && one.state === "succeeded");
  if (!picture?.framesDecoded) {
    return { problem: "no-picture" };
  }
  const sent = picture.packetsReceived + Math.max(0, picture.packetsLost);
  const trips = pair?.responsesReceived > 0 ? pair.totalRoundTripTime / pair.responsesReceived : (pair?.currentRoundTripTime ?? null);
  return {
    frames: picture.framesDecoded,
    width: picture.frameWidth,
    height: picture.frameHeight,
    rtt: trips === null ? null : (trips * 1000) / 2,
    loss: sent > 0 ? (100 * Math.max(0, picture.packetsLost)) / sent : 0,
    by: stats.get(pair?.localCandidateId)?.relayProtocol ?? null,
  };
}
