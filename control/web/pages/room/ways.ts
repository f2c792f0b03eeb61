/** How a video can be played: by the browser itself, or by a player that is loaded for it. */

export type Way = "native" | "hls" | "mpegts";

/** Attaches a player to an element, and returns what ends that. */
export type Attach = (
  video: HTMLVideoElement,
  url: string,
  failed: () => void,
) => (() => void) | Promise<() => void>;

/** The type by which a browser is asked whether it plays HLS. */
const HLS = "application/vnd.apple.mpegurl";

/** The ways to try, one after the other, by the address alone. */
export function waysOf(url: string, plays: (type: string) => boolean): Way[] {
  const path = new URL(url, "http://localhost/").pathname.toLowerCase();
  if (path.endsWith(".m3u8")) return plays(HLS) ? ["native", "hls"] : ["hls"];
  return /\.(flv|ts)$/.test(path) ? ["mpegts"] : ["native"];
}

export function attachBy(way: Way): Attach {
  return way === "native" ? native : loaded(`/web/${way}.js`);
}

const native: Attach = (video, url, failed) => {
  video.src = url;
  video.onerror = failed;
  return () => {
    video.onerror = null;
    video.removeAttribute("src");
    video.load();
  };
};

/** By a player that is fetched now: most rooms need none. */
function loaded(path: string): Attach {
  return async (video, url, failed) => {
    const { attach } = (await import(path)) as { attach: Attach };
    return attach(video, url, failed);
  };
}
