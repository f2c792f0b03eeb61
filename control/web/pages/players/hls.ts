/**
 * HLS where the browser has none of its own, by hls.js. A bundle of its own, loaded only then.
 *
 * The light build: no DRM, no subtitles, no audio that is a stream beside the picture.
 */

import Hls from "hls.js/light";

/** Plays a stream in an element, until the function that is returned is called. */
export function attach(video: HTMLVideoElement, url: string, failed: () => void): () => void {
  if (!Hls.isSupported()) {
    failed();
    return () => {};
  }
  // Its worker is one more file to serve; what a room plays is little work.
  const hls = new Hls({ enableWorker: false });
  hls.on(Hls.Events.ERROR, (_, { fatal, type }) => {
    if (!fatal) return;
    // Of a broken frame it recovers by itself, if it is told to.
    if (type === Hls.ErrorTypes.MEDIA_ERROR) hls.recoverMediaError();
    else failed();
  });
  hls.loadSource(url);
  hls.attachMedia(video);
  return () => hls.destroy();
}
