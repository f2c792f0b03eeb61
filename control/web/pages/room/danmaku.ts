/**
 * Bullet comments over the video: drawn on one canvas, each line from a picture made once.
 *
 * Owns its canvas and its frames; {@link Tracks} says where a line flies.
 */

import { FLIGHT_MS, Flight, placeOf, Tracks } from "./tracks.js";

const SIZE = 22;
const LINE = 32;
/** Lines on their way at once. More than fit on any stage. */
const FLYING_MAX = 300;
/** Frames of which the median is told: ten seconds of them. */
const MEASURED = 600;
const FONT = `600 ${SIZE}px system-ui, "PingFang SC", "Noto Sans CJK SC", sans-serif`;

/** One on its way. */
export interface Flying extends Flight {
  picture: HTMLCanvasElement;
  /** The message it shows; 0: not known (yet). */
  seq: number;
}

export class Danmaku {
  private readonly tracks = new Tracks();
  private readonly brush: CanvasRenderingContext2D;
  private flying: Flying[] = [];
  private width = 0;
  private scale = 1;
  private on = true;
  private last_ms = 0;
  /** The time of those that fly, which stands still with {@link paused}. */
  private time_ms = 0;
  /** They hang where they are. */
  paused = false;
  private readonly frames_ms: number[] = [];

  constructor(private readonly canvas: HTMLCanvasElement) {
    this.brush = canvas.getContext("2d")!;
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.resize();
    requestAnimationFrame((now) => this.draw(now));
  }

  /** Lines that found no track. */
  get crowded(): number {
    return this.tracks.crowded;
  }

  get shown(): number {
    return this.flying.length;
  }

  /** Median frames a second over the last ten seconds; 0: too few were drawn to say. */
  fps(): number {
    if (this.frames_ms.length < 30) return 0;
    const sorted = [...this.frames_ms].sort((a, b) => a - b);
    return 1_000 / sorted[Math.floor(sorted.length / 2)];
  }

  /** Whether they fly at all. */
  set visible(on: boolean) {
    this.on = on;
    this.clear();
  }

  /** None is on its way any more. */
  clear(): void {
    this.flying = [];
    this.tracks.clear();
    this.brush.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  /** These messages were recalled: they are gone with the next frame. */
  recall(seqs: number[]): void {
    const gone = new Set(seqs);
    this.flying = this.flying.filter((one) => one.seq === 0 || !gone.has(one.seq));
    // The frame before the next picture of the page draws those that are left.
    this.brush.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  /** The room began anew: those on their way are of messages that nothing is told of any more. */
  untie(): void {
    for (const one of this.flying) one.seq = 0;
  }

  fly(text: string, kind: "plain" | "own" | "gift" | "system", seq = 0): Flying | undefined {
    if (!this.on || document.hidden || this.flying.length >= FLYING_MAX) return undefined;
    const picture = this.paint(text, kind);
    const width = picture.width / this.scale;
    const flight = this.tracks.take(width, this.width, this.time_ms);
    if (!flight) return undefined;
    const one = { ...flight, picture, seq };
    this.flying.push(one);
    return one;
  }

  private paint(text: string, kind: string): HTMLCanvasElement {
    const picture = document.createElement("canvas");
    const brush = picture.getContext("2d")!;
    brush.font = FONT;
    const width = Math.ceil(brush.measureText(text).width) + 16;
    picture.width = width * this.scale;
    picture.height = LINE * this.scale;
    brush.scale(this.scale, this.scale);
    brush.font = FONT;
    brush.textBaseline = "middle";
    brush.lineJoin = "round";
    brush.lineWidth = 3;
    brush.strokeStyle = "rgb(0 0 0 / 70%)";
    brush.fillStyle = { gift: "#ffd54a", system: "#7fd7ff" }[kind] ?? "#fff";
    brush.strokeText(text, 8, LINE / 2);
    brush.fillText(text, 8, LINE / 2);
    if (kind === "own") {
      brush.strokeStyle = "#7fd7ff";
      brush.lineWidth = 1.5;
      brush.strokeRect(1, 2, width - 2, LINE - 4);
    }
    return picture;
  }

  private resize(): void {
    const { clientWidth, clientHeight } = this.canvas;
    this.scale = Math.min(devicePixelRatio || 1, 2);
    this.canvas.width = clientWidth * this.scale;
    this.canvas.height = clientHeight * this.scale;
    this.width = clientWidth;
    this.tracks.resize(Math.max(1, Math.floor((clientHeight * 0.75) / LINE)));
  }

  private draw(now_ms: number): void {
    if (this.last_ms > 0 && !document.hidden) {
      this.frames_ms.push(now_ms - this.last_ms);
      if (this.frames_ms.length > MEASURED) this.frames_ms.shift();
    }
    if (this.last_ms > 0 && !this.paused) this.time_ms += now_ms - this.last_ms;
    this.last_ms = now_ms;
    const { brush, canvas, scale, time_ms } = this;
    if (this.flying.length > 0) {
      brush.clearRect(0, 0, canvas.width, canvas.height);
      this.flying = this.flying.filter((one) => time_ms < one.from_ms + FLIGHT_MS);
      for (const one of this.flying) {
        const x = Math.round(placeOf(one, this.width, time_ms) * scale);
        brush.drawImage(one.picture, x, (one.track * LINE + 8) * scale);
      }
    }
    requestAnimationFrame((now) => this.draw(now));
  }
}
