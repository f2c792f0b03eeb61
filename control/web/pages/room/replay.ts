/**
 * Shows the lines of an archive again, in time with a clock that may pause, jump and change its
 * speed. Owns up to where lines were shown; what a line looks like is the page's.
 */

import { DanmakuLine, Replay } from "../../sdk/index.js";
import { Clock } from "./clock.js";

/** Lines are asked for so long before they are due. */
const AHEAD_MS = 10_000;
/** A clock that went on by more than this, times its speed, has jumped. */
const JUMP_MS = 1_500;
/** One that went back by less trembles: players do. */
const BACK_MS = 250;
/** Frames are not further apart, or nobody looks. */
const LATE_MS = 100;
/** How often what is ahead is looked after. */
const LOOK_MS = 1_000;

export interface PlaybackActs {
  show(line: DanmakuLine): void;
  /** What was shown is of another moment. */
  clear(): void;
  failed(error: Error): void;
}

export class Playback {
  /** Lines before this were shown, or jumped over. */
  private shown_ms = 0;
  private looked_ms = 0;
  private turned_ms = 0;

  constructor(
    private readonly replay: Replay,
    private readonly clock: () => Clock,
    private readonly acts: PlaybackActs,
  ) {
    requestAnimationFrame((now) => this.turn(now));
  }

  /** The moment that a line written now goes to: it was shown by who writes it. */
  get moment_ms(): number {
    return Math.max(0, Math.floor(this.shown_ms) - 1);
  }

  private turn(now_ms: number): void {
    requestAnimationFrame((now) => this.turn(now));
    const { at_ms, speed } = this.clock();
    const since_ms = now_ms - this.turned_ms;
    this.turned_ms = now_ms;
    if (at_ms < this.shown_ms - BACK_MS || at_ms > this.shown_ms + JUMP_MS * Math.max(speed, 1)) {
      // It jumped to no later a moment than the last frame was.
      this.shown_ms = Math.max(0, at_ms - Math.min(since_ms, LATE_MS) * speed);
      this.looked_ms = now_ms;
      this.acts.clear();
      return this.ask(at_ms);
    }
    if (now_ms > this.looked_ms + LOOK_MS) {
      this.looked_ms = now_ms;
      const ahead_ms = at_ms + AHEAD_MS * Math.max(speed, 1);
      this.ask(this.replay.missing(at_ms, ahead_ms) ?? at_ms);
    }
    // What is not here yet is waited for: it comes a moment late rather than never.
    if (at_ms < this.shown_ms || !this.replay.has(at_ms)) return;
    this.replay.between(this.shown_ms, at_ms).forEach((line) => this.acts.show(line));
    this.shown_ms = at_ms;
  }

  private ask(at_ms: number): void {
    this.replay.prepare(at_ms).catch((error) => this.acts.failed(error));
  }
}
