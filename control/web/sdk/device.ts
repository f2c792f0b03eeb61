/**
 * The name of this device: random, made once and kept by the browser.
 *
 * Owns where it is kept. It names nobody: it tells one browser from another one, for lists of
 * devices and for who is kept out.
 */

/** Where a browser keeps it. */
export const DEVICE_KEY = "uproar.device";
/** What a server takes: anything else there is not ours. */
const SHAPE = /^[0-9a-f]{32}$/;

/** The kept name; empty where nothing is kept: outside of browsers, or where that is forbidden. */
export function keptDevice(): string {
  try {
    const store = globalThis.localStorage;
    if (!store) return "";
    const known = store.getItem(DEVICE_KEY);
    if (known && SHAPE.test(known)) return known;
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    const made = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    store.setItem(DEVICE_KEY, made);
    return made;
  } catch {
    // Where a page may keep nothing, each visit would be another device.
    return "";
  }
}
