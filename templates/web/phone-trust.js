// Whether the browser trusts the certificate of this page, as far as a page can know.
//
// A page is shown as well where somebody went on after a warning. Browsers that know service workers refuse to install
// one from such a page, and say so. Others, and private windows, tell nothing.

/** Milliseconds for an answer. */
const TOLD_WITHIN = 6000;

/** Gives "trusted", "warned" or "unknowable". */
export async function askForTrust() {
  const workers = navigator.serviceWorker;
  if (!workers) {
    return "unknowable";
  }
  const late = new Promise((done) => setTimeout(done, TOLD_WITHIN, null));
  try {
    const script = new URL("./phone-worker.js", import.meta.url);
    const installed = await Promise.race([workers.register(script, { scope: new URL("./nowhere/", script).href }), late]);
    await installed?.unregister();
    return installed ? "trusted" : "unknowable";
  } catch (error) {
    return /certificate|SSL/i.test(error?.message ?? "") ? "warned" : "unknowable";
  }
}
