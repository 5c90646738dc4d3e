// What all pages share: the language, the theme, and finding and making elements.

import { setIcon } from "./icons.js";
import { en } from "./strings.en.js";
import { zh } from "./strings.zh.js";

const STRINGS = { en, zh };

export const element = (id) => document.getElementById(id);

/** An element with a class and children; words among them become text. */
export function make(name, className = "", ...children) {
  const node = document.createElement(name);
  if (className) {
    node.className = className;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Reads a setting of this browser; private modes may have none. */
export function remembered(key) {
  try {
    return localStorage.getItem(`rtcctl.${key}`);
  } catch {
    return null;
  }
}

export function remember(key, value) {
  try {
    localStorage.setItem(`rtcctl.${key}`, value);
  } catch {
    // The choice holds for this page only, then.
  }
}

const asked = new URLSearchParams(location.search).get("lang");
const wanted = asked ?? remembered("language") ?? navigator.languages?.find((tag) => /^(zh|en)/i.test(tag)) ?? "en";
let language = wanted.toLowerCase().startsWith("zh") ? "zh" : "en";

/** The words for `key` in the chosen language, with `{name}` filled from `values`. */
export function text(key, values = {}) {
  const words = STRINGS[language][key] ?? key;
  return words.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** Adds words that only one page needs, before it is translated. */
export function addWords({ en, zh }) {
  Object.assign(STRINGS.en, en);
  Object.assign(STRINGS.zh, zh);
}

/** A number as people of the chosen language write it. */
export const number = (value, digits = 0) =>
  value.toLocaleString(document.documentElement.lang, { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** Called whenever the language changes, for words that are not in the document. */
export const languageListeners = new Set();

/** Changes what a translated element says. */
export function say(node, key) {
  node.dataset.text = key;
  node.textContent = text(key);
}

/** Names an element without words, for those who point at it and those who hear it. */
export function label(node, key) {
  node.dataset.label = key;
  node.setAttribute("aria-label", text(key));
  node.title = text(key);
}

/** Translates what is marked in a part of the document, and gives buttons their pictures. */
export function dress(root) {
  for (const node of root.querySelectorAll("[data-text]")) {
    say(node, node.dataset.text);
  }
  for (const node of root.querySelectorAll("[data-label]")) {
    label(node, node.dataset.label);
  }
  for (const node of root.querySelectorAll("[data-hint]")) {
    node.placeholder = text(node.dataset.hint);
  }
  for (const node of root.querySelectorAll("[data-icon]")) {
    setIcon(node, node.dataset.icon);
  }
}

function translate() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  dress(document);
  element("language").textContent = language === "zh" ? "EN" : "中文";
  languageListeners.forEach((listener) => listener());
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  setIcon(element("theme"), name === "dark" ? "sun" : "moon");
}

export function startShell() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  theme(remembered("theme") ?? (system.matches ? "dark" : "light"));
  system.addEventListener("change", ({ matches }) => remembered("theme") ?? theme(matches ? "dark" : "light"));
  element("theme").addEventListener("click", () => {
    theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    remember("theme", document.documentElement.dataset.theme);
  });
  element("language").addEventListener("click", () => {
    language = language === "zh" ? "en" : "zh";
    remember("language", language);
    translate();
  });
  translate();
}

let noticed = null;

/** Says something that matters, with what to do about it; a key of null takes it away. */
export function notice(key, { detail = "", mood = "warn", act = null } = {}) {
  noticed = key && { key, detail, mood, act };
  const node = element("notice");
  node.hidden = !key;
  node.replaceChildren();
  if (!key) {
    return;
  }
  node.dataset.mood = mood;
  node.dataset.key = key;
  const words = make("p", "", text(key) + detail);
  node.append(words);
  if (act) {
    const button = make("button", "small");
    button.type = "button";
    say(button, act.key);
    button.addEventListener("click", act.run);
    node.append(button);
  }
}

languageListeners.add(() => noticed && notice(noticed.key, noticed));
