// Stands in the place of a page that needs a key and does not know it; gives way to it once the key is right.

import { followLinks, takeKey } from "./access.js";
import { askForKey } from "./keyform.js";
import { startShell } from "./shell.js";

startShell();
followLinks();
const problem = await takeKey();
if (problem === null) {
  location.reload();
} else {
  askForKey(problem ?? "keyMissing", () => location.reload());
}
