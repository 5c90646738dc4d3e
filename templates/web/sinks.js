// Where received files go: a place of the user's choice, the browser's private disk, or memory, by what there is.

/** Bytes from which the user is asked for a place at once, where the browser can write to it directly. */
const LARGE = 256 * 1024 * 1024;
const FOLDER = "rtcctl-files";
/** Milliseconds after which a file that was received earlier is cleared away. */
const KEPT = 24 * 3600 * 1000;

/** A sink {write(bytes), finish(), abort()}; `finish` gives {url} to download, or {saved: name}. */
export async function openSink(name, size) {
  if (size >= LARGE && typeof globalThis.showSaveFilePicker === "function") {
    return chosen(name);
  }
  try {
    return await privateDisk(name);
  } catch {
    return memory();
  }
}

async function chosen(name) {
  const handle = await showSaveFilePicker({ suggestedName: name });
  const writable = await handle.createWritable();
  return {
    write: (bytes) => writable.write(bytes),
    finish: async () => {
      await writable.close();
      return { saved: handle.name };
    },
    abort: () => writable.abort().catch(() => {}),
  };
}

const folder = async () => (await navigator.storage.getDirectory()).getDirectoryHandle(FOLDER, { create: true });

async function privateDisk() {
  const home = await folder();
  const own = `${Date.now()}-${Math.random().toString(36).slice(2)}`;
  const handle = await home.getFileHandle(own, { create: true });
  const writable = await handle.createWritable();
  return {
    write: (bytes) => writable.write(bytes),
    finish: async () => {
      await writable.close();
      return { url: URL.createObjectURL(await handle.getFile()) };
    },
    abort: async () => {
      await writable.abort().catch(() => {});
      await home.removeEntry(own).catch(() => {});
    },
  };
}

function memory() {
  let parts = [];
  return {
    write: async (bytes) => void parts.push(bytes),
    finish: async () => ({ url: URL.createObjectURL(new Blob(parts)) }),
    abort: () => (parts = []),
  };
}

/** Clears away what earlier visits received; what was saved elsewhere stays. */
export async function clearOld() {
  try {
    const home = await folder();
    for await (const name of home.keys()) {
      if (Date.now() - Number(name.split("-")[0]) > KEPT) {
        await home.removeEntry(name);
      }
    }
  } catch {
    // There is no private disk, so there is nothing on it.
  }
}
