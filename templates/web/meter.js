// How loud the microphone is, and a tone by which a speaker is heard.

/** Follows a microphone; `told` hears its loudness from 0 to 1 some times a second. */
export class LevelMeter {
  #context = null;
  #source = null;
  #timer = null;

  follow(track, told) {
    this.stop();
    const Context = globalThis.AudioContext ?? globalThis.webkitAudioContext;
    if (!track || !Context) {
      return told(0);
    }
    this.#context ??= new Context();
    // Some browsers start it only after a click; then the bar moves from there on.
    this.#context.resume?.().catch?.(() => {});
    this.#source = this.#context.createMediaStreamSource(new MediaStream([track]));
    const analyser = this.#context.createAnalyser();
    analyser.fftSize = 1024;
    this.#source.connect(analyser);
    const samples = new Uint8Array(analyser.fftSize);
    let shown = 0;
    this.#timer = setInterval(() => {
      analyser.getByteTimeDomainData(samples);
      shown = Math.max(loudness(samples), shown * 0.82);
      told(shown);
    }, 60);
  }

  stop() {
    clearInterval(this.#timer);
    this.#source?.disconnect();
    this.#source = null;
  }
}

/** From 0 (silence) to 1 (as loud as it gets), in steps as ears hear them: 60 dB of range. */
export function loudness(samples) {
  let sum = 0;
  for (const sample of samples) {
    sum += ((sample - 128) / 128) ** 2;
  }
  const level = Math.sqrt(sum / samples.length);
  return level > 0.001 ? Math.min(1, 1 + Math.log10(level) / 3) : 0;
}

/** Plays two notes on a speaker; an empty id is the usual one. */
export async function playTone(speaker) {
  const Context = globalThis.AudioContext ?? globalThis.webkitAudioContext;
  const context = new Context();
  const target = context.createMediaStreamDestination();
  const audio = new Audio();
  audio.srcObject = target.stream;
  await audio.setSinkId?.(speaker);
  [523.25, 783.99].forEach((pitch, at) => {
    const [note, volume, start] = [context.createOscillator(), context.createGain(), context.currentTime + 0.1 + at * 0.22];
    note.frequency.value = pitch;
    volume.gain.setValueAtTime(0, start);
    volume.gain.linearRampToValueAtTime(0.2, start + 0.02);
    volume.gain.exponentialRampToValueAtTime(0.001, start + 0.4);
    note.connect(volume).connect(target);
    note.start(start);
    note.stop(start + 0.45);
  });
  await audio.play();
  setTimeout(() => context.close(), 1200);
}
