// Compares a room's replay with what was live: `node test/replay.mjs WS HTTP MINUTES ROOM`, while
// uproar-loadgen talks there. Prints what it finds, as JSON. Started by scripts/bench-replay.
import { WebSocket } from "ws";
import { Uproar } from "../dist/uproar.js";

const [url, http, minutes, name] = process.argv.slice(2);
const sleep = (ms) => new Promise((next) => setTimeout(next, ms));

let gets = 0;
async function get(path, headers = {}) {
  gets += 1;
  return fetch(http + path, { headers });
}

const live = [];
let gaps = 0;
const client = new Uproar({ url, WebSocket });
const room = client.room(name);
room.on("message", ({ seq, user, time_ms }) => live.push({ seq, user, time_ms, at: Date.now() }));
room.on("gap", () => (gaps += 1));

const half = Number(minutes) * 30_000;
await sleep(half);
const victim = live.at(-1).user;
const recall = await fetch(`${http}/v1/rooms/${name}/danmaku/recall`, {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ user: victim }),
});
const { recalled } = await recall.json();
const until = live.at(-1).seq; // lines on their way at that moment may be on either side
await sleep(half);
client.close();

const index = async () => (await (await get(`/v1/rooms/${name}/danmaku`)).json()).recordings[0];
let recording = await index();
const path = (segment) => `/v1/rooms/${name}/danmaku/${recording.recording}/${segment}`;
const replayed = [];
for (const { segment } of recording.segments) {
  const answer = await get(path(segment), { accept: "application/json" });
  const { lines } = await answer.json();
  replayed.push(
    ...lines.map((line) => ({ ...line, time_ms: recording.start_unix_ms + line.offset_ms })),
  );
}

// One that begins to watch asks for the index and a segment, and again later.
gets = 0;
recording = await index();
const seek = path(recording.segments[0].segment);
const first = await get(seek);
const seek_gets = gets;
const second = await get(seek, { "if-none-match": first.headers.get("etag") });

// A segment keeps 6,000 lines, and six minutes of 20 a second are 7,200.
const leftOut = recording.segments.reduce((sum, { left_out }) => sum + left_out, 0);

const bySeq = new Map(replayed.map((line) => [line.seq, line]));
const missing = live.filter(({ seq }) => !bySeq.has(seq));
const near = ({ seq }) => Math.abs(seq - until) <= 60;
const ofOthers = missing.filter(
  (line) => line.user !== victim || (line.seq > until && !near(line)),
);
const unaccounted = Math.abs(missing.length - recalled - leftOut);
const kept = replayed.filter((line) => line.user === victim && line.seq < until && !near(line));
// Segments are cut by offset, and two lines of one moment may have offsets the other way round.
const backward = replayed.filter((line, at) => at > 0 && replayed[at - 1].seq > line.seq);
const backwardBy = backward.map((line) => {
  const before = replayed.filter((other) => other.seq > line.seq && other.time_ms < line.time_ms);
  return Math.max(0, ...before.map((other) => line.time_ms - other.time_ms));
});
const off = live.filter(({ seq }) => bySeq.has(seq));
const offBy = off.map((line) => Math.abs(line.time_ms - bySeq.get(line.seq).time_ms));
const late = off.map((line) => line.at - bySeq.get(line.seq).time_ms).sort((a, b) => a - b);
const found = {
  minutes: Number(minutes),
  live_lines: live.length,
  live_gaps: gaps,
  replayed_lines: replayed.length,
  lost_by_the_archive: recording.lines_lost,
  segments: recording.segments.length,
  recalled,
  left_out_of_full_segments: leftOut,
  missing: missing.length,
  missing_of_others: ofOthers.length,
  neither_recalled_nor_left_out: unaccounted,
  recalled_but_there: kept.length,
  out_of_order: backward.length,
  out_of_order_by_ms_most: Math.max(0, ...backwardBy),
  offset_off_ms_most: Math.max(...offBy),
  live_arrival_after_offset_ms: { median: late[late.length >> 1], most: late.at(-1) },
  seek_gets,
  second_seek_status: second.status,
};
console.log(JSON.stringify(found, null, 2));
const holds =
  unaccounted + kept.length + gaps === 0 &&
  found.out_of_order_by_ms_most <= 100 &&
  found.offset_off_ms_most <= 100 &&
  off.length > 0 &&
  seek_gets <= 2 &&
  second.status === 304;
process.exit(holds ? 0 : 1);
