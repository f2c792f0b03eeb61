/**
 * Shows the lines of an archive again, in time with a clock that may pause, jump and change its
 * speed. Owns up to where lines were shown; what a line looks like is the page's.
 */

import { DanmakuLine, Replay } from "../../sdk/index.js";
import { Clock } from "./clock.js";

/** Lines are asked for so long before they are due. */
const AHEAD_MS = 10_000;
/** A clock that is by more than this ahead of where it should be has jumped. */
const JUMP_MS = 1_000;
/** One that went back by less trembles: players do. */
const BACK_MS = 250;
/** Who was not looking for so long is shown what is said now, not all that was. */
const AWAY_MS = 5_000;
/** It jumped to no earlier a moment than this before where it is found. */
const LATE_MS = 100;
/** How often what is ahead is looked after. */
const LOOK_MS = 1_000;

export interface PlaybackActs {
  /** `frame_ms`: of the replay's time, since the frame before. */
  show(line: DanmakuLine, frame_ms: number): void;
  /** What was shown is of another moment. */
  clear(): void;
  failed(error: Error): void;
}

export class Playback {
  /** Lines before this were shown, or jumped over. */
  private shown_ms: number;
  /** What the clock said at the last frame, and when that was. */
  private at_ms: number;
  private turned_ms = performance.now();
  private looked_ms = 0;

  constructor(
    private readonly replay: Replay,
    private readonly clock: () => Clock,
    private readonly acts: PlaybackActs,
  ) {
    this.at_ms = this.shown_ms = clock().at_ms;
    requestAnimationFrame((now) => this.turn(now));
  }

  /** The moment that a line written now goes to: it was shown by who writes it. */
  get moment_ms(): number {
    return Math.max(0, Math.floor(this.shown_ms) - 1);
  }

  private turn(now_ms: number): void {
    requestAnimationFrame((now) => this.turn(now));
    const { at_ms, speed } = this.clock();
    const frame_ms = at_ms - this.at_ms;
    const since_ms = now_ms - this.turned_ms;
    const isAhead = frame_ms > since_ms * speed + JUMP_MS || since_ms > AWAY_MS;
    [this.at_ms, this.turned_ms] = [at_ms, now_ms];
    if (frame_ms < -BACK_MS || isAhead) {
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
    const from_ms = Math.max(this.shown_ms, at_ms - AWAY_MS * Math.max(speed, 1));
    for (const line of this.replay.between(from_ms, at_ms)) this.acts.show(line, frame_ms);
    this.shown_ms = at_ms;
  }

  private ask(at_ms: number): void {
    this.replay.prepare(at_ms).catch((error) => this.acts.failed(error));
  }
}
