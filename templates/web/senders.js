// What a connection sends: the tracks that there are, by which codec, and at most how much.

const transceiverOf = (peer, kind) => peer.getTransceivers().find((one) => one.receiver.track.kind === kind && one.currentDirection !== "stopped");

/** Makes a place for a kind of track, even without one, so that it can be sent later. */
export function offerTrack(peer, kind, media) {
  peer.addTransceiver(media[kind] ?? kind, { direction: "sendrecv", streams: [media.stream] });
}

/** Sends the tracks that there are now, without a new negotiation where one is not needed. */
export function sendTracks(peer, media) {
  if (!peer) {
    return;
  }
  for (const kind of ["audio", "video"]) {
    const track = media[kind];
    const transceiver = transceiverOf(peer, kind);
    if (!transceiver) {
      // Before the first description, an answer takes the places of the other. Some old pages offer one kind only.
      if (track && peer.remoteDescription) {
        offerTrack(peer, kind, media);
      }
      continue;
    }
    if (transceiver.direction === "recvonly") {
      transceiver.direction = "sendrecv";
      // Old pages look for the stream that a track belongs to, and look once.
      transceiver.sender.setStreams?.(media.stream);
    }
    if (transceiver.sender.track !== track) {
      transceiver.sender.replaceTrack(track);
    }
  }
}

/** Puts a codec for video, like "VP9", before the others; an empty name leaves the order to the browser. Gives whether it could. */
export function preferCodec(peer, name) {
  const transceiver = peer && transceiverOf(peer, "video");
  const known = globalThis.RTCRtpReceiver?.getCapabilities?.("video")?.codecs;
  if (!transceiver?.setCodecPreferences || !known) {
    return false;
  }
  const isWanted = ({ mimeType }) => mimeType.toLowerCase() === `video/${name.toLowerCase()}`;
  transceiver.setCodecPreferences(name ? [...known.filter(isWanted), ...known.filter((codec) => !isWanted(codec))] : []);
  return true;
}

/** Limits the bit rate of video, in kbit/s; 0 is no limit. */
export async function limitRate(peer, kbits) {
  const sender = peer && transceiverOf(peer, "video")?.sender;
  const parameters = sender?.getParameters();
  if (parameters?.encodings?.length) {
    for (const encoding of parameters.encodings) {
      kbits > 0 ? (encoding.maxBitrate = kbits * 1000) : delete encoding.maxBitrate;
    }
    await sender.setParameters(parameters);
  }
}
