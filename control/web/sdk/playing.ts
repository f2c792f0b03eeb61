/**
 * What a video element shows of itself, as numbers: when its first frame came, when it stood still
 * and for how long, what is in its buffer.
 *
 * Owns the listeners on one element. Time is the wall's, not the video's: at double speed a second
 * is a second.
 */

import type { Quality, QualityStart } from "./quality.js";

/** A stall of more than this is told at once. */
const LONG_STALL_MS = 2_000;
/** What is in the buffer is measured so often. */
const EVERY_MS = 2_000;

type State = "idle" | "starting" | "playing" | "stalled" | "resting" | "failed";

export class Playing {
  private state: State = "idle";
  private since_ms = performance.now();
  /** When its user wanted it; `undefined`: when it is asked to play. */
  private wished_ms?: number = performance.now();
  private stallToldAfter?: ReturnType<typeof setTimeout>;
  private stall_ms = 0;
  private frames = 0;
  private dropped = 0;
  private bytes = 0;
  private measured_ms = performance.now();
  private shown = 0;
  private readonly timer: ReturnType<typeof setInterval>;
  private readonly listeners: [string, () => void][] = [
    ["play", () => this.wanted()],
    ["playing", () => this.plays()],
    ["waiting", () => this.waits()],
    ["seeking", () => this.state !== "starting" && this.enter("resting")],
    ["pause", () => this.state !== "starting" && this.enter("resting")],
    ["ended", () => this.enter("resting")],
    ["seeked", () => this.goesOn()],
  ];

  /** @internal */
  constructor(
    private readonly video: HTMLVideoElement,
    private readonly quality: Quality,
    errors: boolean,
  ) {
    if (errors) this.listeners.push(["error", () => this.failed()]);
    for (const [name, act] of this.listeners) video.addEventListener(name, act);
    this.timer = setInterval(() => this.look(), EVERY_MS);
    if (!video.paused) this.wanted();
  }

  /** The browser plays nothing by itself: a start is counted from the user's click on. */
  blocked(): void {
    this.wished_ms = undefined;
  }

  /** It cannot be played, or no longer: for who knows it sooner than the element does. */
  failed(): void {
    const hasBegun = this.state !== "idle" && this.state !== "starting";
    if (this.state === "failed") return;
    if (this.state === "idle") this.quality.add("attempts");
    this.enter("failed");
    this.quality.add(hasBegun ? "playback_failures" : "start_failures");
    void this.quality.report();
  }

  /** Measures no more. */
  stop(): void {
    clearInterval(this.timer);
    clearTimeout(this.stallToldAfter);
    for (const [name, act] of this.listeners) this.video.removeEventListener(name, act);
  }

  /** Its user goes. */
  exit(): void {
    if (this.state === "starting") this.quality.add("exits_before_start");
    this.enter("resting");
  }

  // ------------------------------------------------------------ what the element says

  private wanted(): void {
    if (this.state !== "idle" && this.state !== "failed") return;
    this.quality.add("attempts");
    this.wished_ms ??= performance.now();
    this.enter("starting");
  }

  private plays(): void {
    if (this.state === "idle") this.wanted();
    if (this.state === "starting") {
      const msd = Math.round(performance.now() - this.wished_ms!);
      this.quality.started({ ...this.steps(msd), msd });
      this.wished_ms = undefined;
    }
    if (this.state !== "playing") this.enter("playing");
  }

  /** Where all that a seek needs was there, the element tells of nothing but its end. */
  private goesOn(): void {
    const { paused, readyState } = this.video;
    if (this.state === "resting" && !paused && readyState >= 3) this.enter("playing");
  }

  private waits(): void {
    if (this.state !== "playing" || this.video.seeking) return;
    this.enter("stalled");
    this.quality.add("stalls");
    this.stallToldAfter = setTimeout(() => void this.quality.report(), LONG_STALL_MS + 1);
  }

  private enter(state: State): void {
    this.count();
    if (this.state === "stalled") {
      clearTimeout(this.stallToldAfter);
      this.quality.sample("stall", this.stall_ms);
      this.stall_ms = 0;
    }
    this.state = state;
  }

  /** Adds up the time since it was last added up, as what it was. */
  private count(): void {
    const now_ms = performance.now();
    // Whole milliseconds are told, and what is left of one is not lost.
    const gone_ms = Math.floor(now_ms - this.since_ms);
    this.since_ms += gone_ms;
    if (this.state === "playing") this.quality.add("played_ms", gone_ms);
    if (this.state !== "stalled") return;
    this.quality.add("stall_ms", gone_ms);
    this.stall_ms += gone_ms;
  }

  /** The steps of a start, where the browser tells them, and as far as they fit into the whole. */
  private steps(msd: number): QualityStart {
    const found = performance.getEntriesByName(this.video.currentSrc);
    const entry = found[0] as PerformanceResourceTiming | undefined;
    if (!entry || entry.responseStart === 0) return {};
    const steps = {
      dns: Math.round(entry.domainLookupEnd - entry.domainLookupStart),
      connect: Math.round(entry.connectEnd - entry.connectStart),
      ttfb: Math.round(entry.responseStart - entry.requestStart),
    };
    return steps.dns + steps.connect + steps.ttfb <= msd ? steps : {};
  }

  // ------------------------------------------------------------ what is measured

  private look(): void {
    if (this.state !== "playing" && this.state !== "stalled") return;
    const { buffered, currentTime } = this.video;
    for (let place = 0; place < buffered.length; place += 1) {
      if (buffered.start(place) > currentTime || buffered.end(place) < currentTime) continue;
      this.quality.sample("bl", (buffered.end(place) - currentTime) * 1_000);
    }
  }

  /**
   * Adds up what the element counts by itself.
   *
   * @internal
   */
  measure(): void {
    this.count();
    const { totalVideoFrames, droppedVideoFrames } = this.video.getVideoPlaybackQuality();
    const frames = rise(this.frames, totalVideoFrames);
    const dropped = rise(this.dropped, droppedVideoFrames);
    [this.frames, this.dropped] = [totalVideoFrames, droppedVideoFrames];
    this.quality.add("frames", frames - dropped);
    this.quality.add("frames_dropped", dropped);
    const { webkitVideoDecodedByteCount: bytes = 0 } = this.video as { [name: string]: any };
    const now_ms = performance.now();
    const gone_ms = now_ms - this.measured_ms;
    this.measured_ms = now_ms;
    const came = rise(this.bytes, bytes);
    this.bytes = bytes;
    if (this.state !== "playing" || this.shown++ === 0 || gone_ms < 1_000) return;
    this.quality.sample("fps", (frames * 1_000) / gone_ms);
    this.quality.sample("height", this.video.videoHeight);
    if (came > 0) this.quality.sample("br", (came * 8) / gone_ms);
  }
}

/** What a counter rose by; another source begins it anew. */
const rise = (before: number, now: number): number => (now < before ? now : now - before);
