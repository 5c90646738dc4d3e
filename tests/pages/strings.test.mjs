// Every word of the pages is in both languages, and every key is used.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import test from "node:test";

import { en as enOfAll } from "../../templates/web/strings.en.js";
import { en as enOfPhone } from "../../templates/web/strings.phone.en.js";
import { zh as zhOfPhone } from "../../templates/web/strings.phone.zh.js";
import { zh as zhOfAll } from "../../templates/web/strings.zh.js";

const en = { ...enOfAll, ...enOfPhone };
const zh = { ...zhOfAll, ...zhOfPhone };
const folder = new URL("../../templates/web/", import.meta.url);
const files = readdirSync(folder).filter((name) => /\.(js|html)$/.test(name) && !name.startsWith("strings."));
const sources = new Map(files.map((name) => [name, readFileSync(new URL(name, folder), "utf8")]));
const all = [...sources.values()].join("\n");
const placeholders = (words) => [...words.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort();

test("both languages have the same keys with the same blanks", () => {
  assert.deepEqual(Object.keys(zh), Object.keys(en));
  for (const key of Object.keys(en)) {
    assert.ok(en[key].trim() && zh[key].trim(), `${key} is empty`);
    assert.deepEqual(placeholders(zh[key]), placeholders(en[key]), key);
  }
});

test("words of the phone's page take the place of no others", () => {
  assert.equal(Object.keys(en).length, Object.keys(enOfAll).length + Object.keys(enOfPhone).length);
});

test("everything is translated", () => {
  for (const [key, words] of Object.entries(zh)) {
    // A blank with a sign is the same in all languages; the switch names the other language in its own words.
    if (key !== "language" && words.replace(/\{\w+\}/g, "").match(/[a-z]/i)) {
      assert.match(words, /[\u4e00-\u9fff]/, `${key} has no Chinese: ${words}`);
      assert.notEqual(words, en[key], key);
    }
    if (key !== "language") {
      assert.doesNotMatch(en[key], /[\u4e00-\u9fff]/, `${key} has Chinese in English`);
    }
  }
});

test("no key is unused", () => {
  for (const key of Object.keys(en)) {
    const isBuilt = ["file_${state}", "step_${step}", "phone_${report.note}", "hint_${hint}"].some((name) => key.startsWith(name.split("$")[0]) && all.includes(`\`${name}\``));
    const isUsed = all.includes(`"${key}"`) || isBuilt;
    // States of a call are shown by their own names.
    assert.ok(isUsed, `${key} is used nowhere`);
  }
});

test("there are words for each step, note and hint of a phone's proof, as the service spells them", () => {
  // Of an enum in Rust, its variants as serde writes them.
  const variants = (path, name) => {
    const source = readFileSync(new URL(`../../src/phone/${path}`, import.meta.url), "utf8");
    const [, body] = new RegExp(`pub enum ${name} \\{([^}]*)\\}`).exec(source);
    const names = [...body.matchAll(/^    (\w+),$/gm)].map(([, variant]) => variant);
    return names.map((variant) => variant.replace(/(?!^)([A-Z])/g, "-$1").toLowerCase());
  };
  for (const [prefix, path, name] of [["step_", "report.rs", "Step"], ["phone_", "report.rs", "Note"], ["hint_", "verdict.rs", "Hint"]]) {
    const wanted = variants(path, name).map((variant) => prefix + variant);
    assert.ok(wanted.length >= 9, name);
    assert.deepEqual(Object.keys(enOfPhone).filter((key) => key.startsWith(prefix)).sort(), wanted.sort());
  }
});

test("every key that the pages ask for exists", () => {
  const asked = [...all.matchAll(/data-(?:text|label|hint)="(\w+)"|\b(?:text|say|notice|label)\((?:\w+, )?"(\w+)"/g)].map(([, one, other]) => one ?? other);
  assert.ok(asked.length > 80);
  for (const key of asked) {
    assert.ok(key in en, `${key} has no words`);
  }
});

test("the pages have no words of their own", () => {
  for (const [name, source] of sources) {
    // A device that does not trust the service yet is shown both languages at once, without a script.
    if (name.endsWith(".html") && name !== "trust.html") {
      const bare = source.replace(/<(title|!--)[\s\S]*?<\/title>/g, "").replace(/<[^>]*>/g, " ");
      assert.deepEqual(bare.split(/\s+/).filter((word) => word && !["rtcctl"].includes(word)), [], name);
    }
  }
});
