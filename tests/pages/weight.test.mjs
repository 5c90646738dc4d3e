// What a first visit loads: everything here, nothing from elsewhere, and little of it.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import test from "node:test";
import { gzipSync } from "node:zlib";

const folder = new URL("../../templates/web/", import.meta.url);
const read = (name) => readFileSync(new URL(name, folder));
/** Bytes of all that is needed before a page can be used. */
const LIMIT = 100_000;

/** A page, what it links, and what its scripts import, but not what they import on demand. */
function loaded(page) {
  const html = read(page).toString();
  const waiting = [...html.matchAll(/(?:src|href)="\/rtcctl\/([^"]+)"/g)].map(([, name]) => name);
  const all = new Set([page]);
  while (waiting.length) {
    const name = waiting.pop();
    if (!all.has(name)) {
      all.add(name);
      waiting.push(...[...read(name).toString().matchAll(/^import .* from "\.\/([^"]+)";$/gm)].map(([, other]) => other));
    }
  }
  return [...all];
}

test("the first view of a page is light", () => {
  for (const page of ["index.html", "ice-test.html", "key.html", "phone.html"]) {
    const names = loaded(page);
    const [plain, packed] = [(data) => data.length, (data) => gzipSync(data).length].map((size) => names.reduce((sum, name) => sum + size(read(name)), 0));
    console.log(`${page}: ${names.length} files, ${plain} bytes, ${packed} compressed`);
    assert.ok(packed < LIMIT, `${page}: ${packed} bytes`);
  }
});

test("a page names all scripts that it needs, so that they come at once and not one after the other", () => {
  for (const page of ["index.html", "ice-test.html", "key.html", "phone.html"]) {
    const named = [...read(page).toString().matchAll(/(?:src|href)="\/rtcctl\/([^"]+\.js)"/g)].map(([, name]) => name);
    assert.deepEqual(named.sort(), loaded(page).filter((name) => name.endsWith(".js")).sort(), page);
  }
});

test("scripts import only their neighbours, and nothing is fetched from elsewhere", () => {
  for (const name of readdirSync(folder)) {
    const source = read(name).toString().replace(/^ *\/\/.*$/gm, "");
    const foreign = [...source.matchAll(/https?:\/\/(?!www\.w3\.org\/)[a-z][^\s"'`]*/g)].map(([url]) => url);
    assert.deepEqual(foreign, [], name);
    for (const [, from, late] of source.matchAll(/\bfrom "([^"]+)"|import\("([^"]+)"\)/g)) {
      assert.match(from ?? late, /^\.\//, name);
    }
  }
});

test("every script and style is used", () => {
  const all = readdirSync(folder).filter((name) => /\.(js|css|svg)$/.test(name));
  const sources = readdirSync(folder).map((name) => read(name).toString()).join("\n");
  for (const name of all) {
    assert.ok(sources.includes(`./${name}"`) || sources.includes(`/rtcctl/${name}"`), `${name} is used nowhere`);
  }
});

test("no file is too long to read", () => {
  for (const name of readdirSync(folder)) {
    assert.ok(read(name).toString().split("\n").length < 600, name);
  }
});
