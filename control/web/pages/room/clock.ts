/** What a replay follows: the time of the video, or of the test pattern, which is as good. */

export interface Clock {
  readonly at_ms: number;
  /** 0: not known (yet). */
  readonly length_ms: number;
  readonly playing: boolean;
  readonly speed: number;
  play(): void;
  pause(): void;
  seek(at_ms: number): void;
  setSpeed(speed: number): void;
}

export class VideoClock implements Clock {
  constructor(private readonly video: HTMLVideoElement) {}

  get at_ms(): number {
    return this.video.currentTime * 1_000;
  }

  get length_ms(): number {
    return Number.isFinite(this.video.duration) ? this.video.duration * 1_000 : 0;
  }

  get playing(): boolean {
    return !this.video.paused && !this.video.ended;
  }

  get speed(): number {
    return this.video.playbackRate;
  }

  play(): void {
    void this.video.play().catch(() => {});
  }

  pause(): void {
    this.video.pause();
  }

  seek(at_ms: number): void {
    this.video.currentTime = at_ms / 1_000;
  }

  setSpeed(speed: number): void {
    this.video.playbackRate = speed;
  }
}

/** The time of no video: it runs until the replay ends. */
export class PatternClock implements Clock {
  speed = 1;
  private runs = false;
  private base_ms = 0;
  private since_ms = 0;

  /** `length`: how long it is by now. */
  constructor(private readonly length: () => number) {}

  get at_ms(): number {
    const gone_ms = this.runs ? (performance.now() - this.since_ms) * this.speed : 0;
    if (this.base_ms + gone_ms <= this.length_ms) return this.base_ms + gone_ms;
    // What is recorded still grows: it goes on from here then, and does not make up for the wait.
    [this.base_ms, this.since_ms] = [this.length_ms, performance.now()];
    return this.base_ms;
  }

  get length_ms(): number {
    return this.length();
  }

  get playing(): boolean {
    return this.runs && this.at_ms < this.length_ms;
  }

  play(): void {
    this.set(this.at_ms >= this.length_ms ? 0 : this.at_ms, true);
  }

  pause(): void {
    this.set(this.at_ms, false);
  }

  seek(at_ms: number): void {
    this.set(at_ms, this.playing);
  }

  setSpeed(speed: number): void {
    this.set(this.at_ms, this.playing);
    this.speed = speed;
  }

  private set(at_ms: number, playing: boolean): void {
    this.base_ms = Math.min(Math.max(at_ms, 0), this.length_ms);
    this.since_ms = performance.now();
    this.runs = playing;
  }
}
