// What browsers have and Node.js 18 has not under these names.

import { webcrypto } from "node:crypto";

globalThis.crypto ??= webcrypto;
globalThis.CustomEvent ??= class CustomEvent extends Event {
  constructor(name, { detail = null } = {}) {
    super(name);
    this.detail = detail;
  }
};
