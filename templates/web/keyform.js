// Asks for an invite link or its key, until there is a right one.

import { giveKey, keyIn } from "./access.js";
import { element, say } from "./shell.js";

/** Says what is wrong, as a key of the strings; `done` is called with what was typed once the server has taken it. */
export function askForKey(problem, done) {
  const [form, field, words] = ["key-form", "key", "key-words"].map(element);
  const tell = (problem) => {
    say(words, problem);
    field.setAttribute("aria-invalid", String(problem !== "keyMissing"));
    field.focus();
  };
  form.onsubmit = async (event) => {
    event.preventDefault();
    const key = keyIn(field.value);
    const wrong = key === null ? "keyWrong" : await giveKey(key);
    if (wrong !== null) {
      return tell(wrong);
    }
    const typed = field.value;
    field.value = "";
    form.hidden = true;
    done(typed);
  };
  form.hidden = false;
  tell(problem);
}
