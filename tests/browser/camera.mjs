// A camera of one colour with a moving bar, so that a picture can be told from black, from frozen, and from the own.

import { writeFileSync } from "node:fs";

const [WIDTH, HEIGHT, FRAMES, RATE] = [320, 240, 30, 20];

/** Colours in RGB, far from each other. */
export const COLOURS = { red: [200, 40, 40], blue: [40, 60, 200], green: [40, 180, 60] };

function toYuv([r, g, b]) {
  const clamp = (value) => Math.max(0, Math.min(255, Math.round(value)));
  return [
    clamp(16 + 0.257 * r + 0.504 * g + 0.098 * b),
    clamp(128 - 0.148 * r - 0.291 * g + 0.439 * b),
    clamp(128 + 0.439 * r - 0.368 * g - 0.071 * b),
  ];
}

/** Writes a YUV4MPEG2 file that Chromium plays as a camera. */
export function writeCamera(path, colour) {
  const [y, u, v] = toYuv(COLOURS[colour]);
  const parts = [Buffer.from(`YUV4MPEG2 W${WIDTH} H${HEIGHT} F${RATE}:1 Ip A1:1 C420jpeg\n`)];
  for (let frame = 0; frame < FRAMES; frame += 1) {
    const luma = Buffer.alloc(WIDTH * HEIGHT, y);
    const left = Math.floor((frame * (WIDTH - 40)) / FRAMES);
    for (let row = 0; row < HEIGHT; row += 1) {
      luma.fill(235, row * WIDTH + left, row * WIDTH + left + 40);
    }
    const size = (WIDTH * HEIGHT) / 4;
    parts.push(Buffer.from("FRAME\n"), luma, Buffer.alloc(size, u), Buffer.alloc(size, v));
  }
  writeFileSync(path, Buffer.concat(parts));
}
