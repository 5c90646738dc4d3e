// Which tracks a connection sends, and from when on.

import assert from "node:assert/strict";
import test from "node:test";

import { sendTracks } from "../../templates/web/senders.js";

/** A connection with a place for each of these kinds. */
function peer(kinds, remoteDescription) {
  const transceivers = kinds.map((kind) => {
    const sender = { track: null, replaceTrack: (track) => (sender.track = track) };
    return { receiver: { track: { kind } }, sender, direction: "sendrecv" };
  });
  return { remoteDescription, transceivers, added: [], getTransceivers: () => transceivers, addTransceiver(track) { this.added.push(track); } };
}

const media = { audio: "a microphone", video: "a camera", stream: {} };
const sent = ({ transceivers }) => transceivers.map(({ sender }) => sender.track);

test("a camera that comes between the offer and its answer is sent", () => {
  const offering = peer(["audio", "video"], null);
  sendTracks(offering, media);
  assert.deepEqual(sent(offering), ["a microphone", "a camera"]);
});

test("before the other's offer is there, nothing is added that it may have a place for", () => {
  const waiting = peer([], null);
  sendTracks(waiting, media);
  assert.deepEqual(waiting.added, []);
  const answering = peer(["audio"], {});
  sendTracks(answering, media);
  assert.deepEqual([sent(answering), answering.added], [["a microphone"], ["a camera"]]);
  sendTracks(null, media);
});
