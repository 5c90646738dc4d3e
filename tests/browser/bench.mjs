// How soon people see each other: run by `scripts/bench page`, with URL, CA, NETWORKS, RUNS and LINK in the environment.
//
// "join": from the second one's click to the first frame that both show of the other. "link": from opening an invite
// link, in a browser that remembers its devices, to the answer that one is in the room.

import { people, person, url } from "./cast.mjs";

const runs = Number(process.env.RUNS ?? 15);
const median = (values) => [...values].sort((one, other) => one - other)[Math.floor(values.length / 2)];

/** Notes when the first frame of the other is shown, in milliseconds of the machine's clock. */
const awaitFrame = (one) =>
  one.page.evaluate(() => {
    globalThis.firstFrame = new Promise((done) => {
      document.getElementById("remote").requestVideoFrameCallback(() => done(performance.timeOrigin + performance.now()));
    });
  });

async function lobby(one, room) {
  await one.page.goto(`${url}/?room=${encodeURIComponent(room)}`);
  await one.page.waitForFunction(() => document.getElementById("preview").videoWidth > 0);
}

async function timesOfJoining(anna, bo) {
  const times = [];
  for (let run = 0; run < runs; run += 1) {
    const room = `bench ${run}`;
    await Promise.all([anna, bo].map((one) => lobby(one, room)));
    await anna.page.click("#join");
    await anna.becomes("waiting");
    await Promise.all([anna, bo].map(awaitFrame));
    const start = await bo.page.evaluate(() => {
      document.getElementById("join").click();
      return performance.timeOrigin + performance.now();
    });
    const frames = await Promise.all([anna, bo].map((one) => one.page.evaluate(() => globalThis.firstFrame)));
    times.push(Math.max(...frames) - start);
  }
  return times;
}

async function timesOfOpening(anna) {
  await lobby(anna, "bench");
  await anna.page.evaluate(() => document.getElementById("at-once").checked || document.getElementById("at-once").click());
  for (const id of ["camera", "microphone"]) {
    await anna.page.evaluate((id) => document.getElementById(id).dispatchEvent(new Event("change")), id);
  }
  const times = [];
  for (let run = 0; run < runs; run += 1) {
    await anna.page.goto(`${url}/?room=link-${run}`);
    times.push(await (await anna.page.waitForFunction(() => globalThis.rtcctl?.times.joined)).jsonValue());
  }
  return times;
}

function print(name, what, times, target) {
  const sorted = [...times].sort((one, other) => one - other);
  const round = Math.round;
  console.log(`${name}: ${what}: median ${round(median(times))} ms [${round(sorted[0])}-${round(sorted.at(-1))}] of ${times.length}; target ${target} ms`);
}

try {
  const [anna, bo] = [await person(0, "red"), await person(1, "blue")];
  // Past the gate, if there is one: what follows is measured with the session of the link.
  await Promise.all([anna, bo].map((one) => one.page.goto(process.env.LINK).then(() => one.becomes("lobby"))));
  print("join", "from the second join to the first frame on both sides", await timesOfJoining(anna, bo), 500);
  print("link", "from opening a link with remembered devices to being in the room", await timesOfOpening(anna), 700);
  const complaints = people.flatMap((one) => one.complaints);
  if (complaints.length > 0) {
    throw new Error(complaints.join(" | "));
  }
} catch (error) {
  console.error(`error: ${error.stack}`);
  process.exitCode = 1;
} finally {
  await Promise.allSettled(people.map((one) => one.close()));
}
