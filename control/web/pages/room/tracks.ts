/**
 * Where a bullet comment flies so that it meets no other one: pure, without a canvas or a clock.
 *
 * A line enters at the right edge and leaves at the left one, `FLIGHT_MS` later, however long it
 * is: longer ones are faster. A track takes the next line once the one before has come in whole,
 * and where the next one will not catch it.
 */

/** From the right edge to out of sight at the left. */
export const FLIGHT_MS = 8_000;
/** Space between two lines on one track, in pixels. */
const SPACE = 24;

/** One line on its way. */
export interface Flight {
  /** From the top, from 0. */
  track: number;
  width: number;
  from_ms: number;
}

/** How far the left end of a flight is from the left edge, in pixels. */
export function placeOf(flight: Flight, stage: number, now_ms: number): number {
  const way = stage + flight.width;
  return stage - (way * (now_ms - flight.from_ms)) / FLIGHT_MS;
}

export class Tracks {
  /** The last one of each track. */
  private last: (Flight | undefined)[] = [];
  /** Lines for which there was no room: the page shows them in its list alone. */
  crowded = 0;

  /** A stage of so many tracks. Those on their way go on. */
  resize(tracks: number): void {
    this.last.length = tracks;
  }

  /** All of them are free. */
  clear(): void {
    this.last.fill(undefined);
  }

  /** A line that is so wide takes off now, or there is no room for it. */
  take(width: number, stage: number, now_ms: number): Flight | undefined {
    for (let track = 0; track < this.last.length; track += 1) {
      const before = this.last[track];
      if (before && !isFree(before, width, stage, now_ms)) continue;
      const flight = { track, width, from_ms: now_ms };
      this.last[track] = flight;
      return flight;
    }
    this.crowded += 1;
    return undefined;
  }
}

function isFree(before: Flight, width: number, stage: number, now_ms: number): boolean {
  const tail = placeOf(before, stage, now_ms) + before.width + SPACE;
  if (tail > stage) return false;
  // When the one before is out of sight, the next one's front must not have passed the left edge.
  const gone_ms = before.from_ms + FLIGHT_MS;
  const front = placeOf({ track: 0, width, from_ms: now_ms }, stage, gone_ms);
  return front >= 0;
}
