/** Bullet comments never meet, however many come and however long they are. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { FLIGHT_MS, Flight, placeOf, Tracks } from "../pages/room/tracks.js";

/** Numbers that look random and are the same each time. */
function dice(seed: number): () => number {
  return () => {
    seed = (seed * 1103515245 + 12345) % 2 ** 31;
    return seed / 2 ** 31;
  };
}

test("no two lines overlap at any moment", () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const chance = dice(seed);
    const stage = 300 + Math.floor(chance() * 1_500);
    const tracks = new Tracks();
    tracks.resize(1 + Math.floor(chance() * 12));
    const flying: Flight[] = [];
    let now_ms = 0;
    for (let line = 0; line < 400; line += 1) {
      now_ms += chance() * 200;
      const flight = tracks.take(20 + chance() * 900, stage, now_ms);
      if (flight) flying.push(flight);
    }
    assert.ok(flying.length > 4, `seed ${seed}: ${flying.length} took off`);
    for (let at = 0; at < now_ms + FLIGHT_MS; at += 37) {
      const seen = flying.filter((one) => one.from_ms <= at && at < one.from_ms + FLIGHT_MS);
      for (const one of seen) {
        for (const other of seen) {
          if (one === other || one.track !== other.track) continue;
          const [left, right] = [placeOf(one, stage, at), placeOf(other, stage, at)];
          const apart = left + one.width <= right || right + other.width <= left;
          assert.ok(apart, `seed ${seed}: two lines meet at ${at} ms`);
        }
      }
    }
  }
});

test("what finds no track is counted", () => {
  const tracks = new Tracks();
  tracks.resize(2);
  const taken = Array.from({ length: 5 }, () => tracks.take(100, 800, 0));
  assert.deepEqual(
    taken.map((one) => one?.track),
    [0, 1, undefined, undefined, undefined],
  );
  assert.equal(tracks.crowded, 3);
});

test("a line crosses the whole stage", () => {
  const flight = { track: 0, width: 100, from_ms: 1_000 };
  assert.equal(placeOf(flight, 800, 1_000), 800);
  assert.equal(placeOf(flight, 800, 1_000 + FLIGHT_MS), -100);
});
