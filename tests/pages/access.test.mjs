// Keys in what people paste.

import "./old-node.mjs";

import assert from "node:assert/strict";
import test from "node:test";

import { keyIn, roomIn } from "../../templates/web/access.js";

test("a key is found in a link, in its end and alone", () => {
  for (const typed of ["https://a.example/?room=x#key=abc-1", " https://a.example/#room=x&key=abc-1 ", "#key=abc-1", "key=abc-1", "abc-1", "https://a.example/api/ice?key=abc-1"]) {
    assert.equal(keyIn(typed), "abc-1", typed);
  }
  for (const typed of ["", " ", "https://a.example/?room=x", "two words", "monkey=abc", "密钥", "#key=%zz"]) {
    assert.equal(keyIn(typed), null, typed);
  }
});

test("the room of a link is found, too", () => {
  assert.equal(roomIn("https://a.example/?room=%E4%BC%9A+1#key=abc"), "会 1");
  assert.equal(roomIn("abc"), null);
});
