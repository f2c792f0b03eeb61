/** FLV and bare MPEG-TS, which no browser plays, by mpegts.js. A bundle of its own. */

import mpegts from "mpegts.js";

/** Plays a stream in an element, until the function that is returned is called. */
export function attach(video: HTMLVideoElement, url: string, failed: () => void): () => void {
  if (!mpegts.isSupported()) {
    failed();
    return () => {};
  }
  mpegts.LoggingControl.enableAll = false;
  const type = new URL(url, location.href).pathname.toLowerCase().endsWith(".ts")
    ? "mpegts"
    : "flv";
  const player = mpegts.createPlayer({ type, url: new URL(url, location.href).href });
  player.on(mpegts.Events.ERROR, failed);
  player.attachMediaElement(video);
  player.load();
  return () => player.destroy();
}
