// What both pages share: the language, the theme, and finding elements.

import { STRINGS } from "/rtcctl/strings.js";

export const element = (id) => document.getElementById(id);

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

const wanted = remembered("language") ?? navigator.languages?.find((tag) => /^(zh|en)/i.test(tag)) ?? "en";
let language = wanted.toLowerCase().startsWith("zh") ? "zh" : "en";

/** The words for `key` in the chosen language. */
export const text = (key) => STRINGS[language][key] ?? key;

/** Called whenever the language changes, for words that are not in the document. */
export const languageListeners = new Set();

function translate() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const node of document.querySelectorAll("[data-text]")) {
    node.textContent = text(node.dataset.text);
  }
  for (const node of document.querySelectorAll("[data-label]")) {
    node.setAttribute("aria-label", text(node.dataset.label));
    node.title = text(node.dataset.label);
  }
  element("language").textContent = language === "zh" ? "EN" : "中文";
  languageListeners.forEach((listener) => listener());
}

const isDark = () => document.documentElement.dataset.theme === "dark";

export function startShell() {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  document.documentElement.dataset.theme = remembered("theme") ?? system;
  element("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    remember("theme", document.documentElement.dataset.theme);
  });
  element("language").addEventListener("click", () => {
    language = language === "zh" ? "en" : "zh";
    remember("language", language);
    translate();
  });
  translate();
}

/** Changes what a translated element says. */
export function say(node, key) {
  node.dataset.text = key;
  node.textContent = text(key);
}
