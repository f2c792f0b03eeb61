/**
 * What was said in a room, or written to a video, for a player that shows it again: lines by their
 * offset, a segment at a time.
 *
 * Owns which segments are held, and when one is asked for. Knows no player and no page.
 */

import { Account, ApiError } from "./account.js";
import { ofProto } from "./codec.js";
import { Class, Combo } from "./frames.js";

/** One line. */
export interface DanmakuLine {
  /** From the start of the recording, or of the video. */
  offset_ms: number;
  class: Class | "unknown";
  user: string;
  /** One of the two is there, unless it has a `combo`. */
  text?: string;
  data?: Uint8Array;
  /** 0 to 10: what is shown first where there is no room for all. */
  weight: number;
  /** Names the line within its recording. */
  seq: number;
  /** Of a gift with a name; such a one may have neither `text` nor `data`. */
  combo?: Combo;
}

/** A recording of a room (the latest one, where none is named), or a video. */
export type Recorded = { room: string; recording?: string } | { video: string };

interface Index {
  /** Where the segments are. */
  path: string;
  start_unix_ms: number;
  segment_ms: number;
  /** By number; one without lines is not there. */
  segments: Map<number, Entry>;
}

interface Entry {
  segment: number;
  to_ms: number;
  lines: number;
  version: number;
  open: boolean;
}

interface Held {
  /** What the index said of it when it was asked for. */
  as: string;
  /** Rising by offset. */
  lines: DanmakuLine[];
}

/** Segments that are held. Reached: the one that was needed longest ago goes. */
const HELD_MAX = 8;
/** What the index says is believed for so long; where something is still written to, for less. */
const CLOSED_MS = 30_000;
const OPEN_MS = 5_000;
/** A request that failed is not made again before. */
const PAUSE_MS = 3_000;
/** Recordings of a room that are looked through for one that is named. */
const RECORDINGS_MAX = 100;

export class Replay {
  private index?: Index;
  private index_ms = 0;
  private indexing?: Promise<void>;
  private notBefore_ms = 0;
  private readonly held = new Map<number, Held>();
  private readonly asked = new Map<number, Promise<void>>();

  /** `base`: where the HTTP interface is; by default where the page came from. */
  constructor(
    readonly of: Recorded,
    private readonly base = "",
  ) {}

  /** Reads what there is. Refused: an {@link ApiError} tells why. */
  open(): Promise<void> {
    this.indexing ??= this.readIndex().finally(() => (this.indexing = undefined));
    return this.indexing;
  }

  /** Up to where there are lines; 0: there are none. */
  get length_ms(): number {
    return Math.max(0, ...[...(this.index?.segments.values() ?? [])].map((one) => one.to_ms));
  }

  /** When offset 0 was, as `Date.now()` does; 0 for a video. */
  get start_unix_ms(): number {
    return this.index?.start_unix_ms ?? 0;
  }

  /** Whether the lines of a moment are here, or there are none. */
  has(at_ms: number): boolean {
    const number = this.numberOf(at_ms);
    return number !== undefined && (!this.index!.segments.has(number) || this.held.has(number));
  }

  /** The first moment of a range whose lines are not here; `undefined`: all are. */
  missing(from_ms: number, to_ms: number): number | undefined {
    const length_ms = this.index?.segment_ms ?? Infinity;
    for (let at_ms = from_ms; at_ms < to_ms; at_ms += length_ms) {
      if (!this.has(at_ms)) return at_ms;
    }
    return this.has(to_ms) ? undefined : to_ms;
  }

  /**
   * Brings the lines of a moment: one request for its segment where it is not held as it is now,
   * and one for the index where that is old. Call it at a seek, and ahead of what plays.
   */
  async prepare(at_ms: number): Promise<void> {
    const now_ms = Date.now();
    if (now_ms < this.notBefore_ms) return;
    try {
      if (now_ms > this.index_ms + this.believed_ms()) await this.open();
      const number = this.numberOf(at_ms)!;
      const entry = this.index!.segments.get(number);
      if (!entry) return void this.held.delete(number);
      const held = this.held.get(number);
      if (held?.as === asOf(entry)) return this.hold(number, held);
      await this.bring(entry);
    } catch (error) {
      this.notBefore_ms = Date.now() + PAUSE_MS;
      throw error;
    }
  }

  /** The lines from one moment on, up to another one and without it, as far as they are here. */
  between(from_ms: number, to_ms: number): DanmakuLine[] {
    const found: DanmakuLine[] = [];
    // Offsets are whole milliseconds, a player's clock is not.
    const end_ms = Math.max(Math.ceil(to_ms) - 1, from_ms);
    const [first, last] = [this.numberOf(from_ms), this.numberOf(end_ms)];
    for (let number = first ?? 1; number <= (last ?? 0); number += 1) {
      const lines = this.held.get(number)?.lines ?? [];
      for (let at = placeOf(lines, from_ms); at < lines.length; at += 1) {
        if (lines[at].offset_ms >= to_ms) break;
        found.push(lines[at]);
      }
    }
    return found;
  }

  /** Writes a line to a moment of a video, in the name of who is logged in. Its `seq`. */
  async write(account: Account, text: string, offset_ms: number): Promise<number> {
    if (!("video" in this.of)) throw new Error("lines are written to videos alone");
    const path = `/v1/videos/${encodeURIComponent(this.of.video)}/danmaku`;
    const { seq } = (await account.ask("POST", path, { text, offset_ms })) as { seq: number };
    this.index_ms = 0; // what it said is over
    return seq;
  }

  // ------------------------------------------------------------ requests

  private numberOf(at_ms: number): number | undefined {
    return this.index && Math.floor(Math.max(at_ms, 0) / this.index.segment_ms);
  }

  private believed_ms(): number {
    const all = [...(this.index?.segments.values() ?? [])];
    return all.length === 0 || all.some((one) => one.open) ? OPEN_MS : CLOSED_MS;
  }

  private async readIndex(): Promise<void> {
    const name = encodeURIComponent("room" in this.of ? this.of.room : this.of.video);
    if ("video" in this.of) {
      const path = `/v1/videos/${name}/danmaku`;
      this.index = indexOf(path, await this.json(path));
    } else {
      const { recording } = this.of;
      const path = `/v1/rooms/${name}/danmaku`;
      const { recordings } = await this.json(
        `${path}?limit=${recording === undefined ? 1 : RECORDINGS_MAX}`,
      );
      const wanted = (one: { recording: string }) => !recording || one.recording === recording;
      const found = recordings.find(wanted);
      if (!found) throw new ApiError(404, 0, "there is no such recording");
      // A room may begin another life while its last one is watched.
      this.of.recording = found.recording;
      this.index = indexOf(`${path}/${found.recording}`, found);
    }
    this.index_ms = Date.now();
  }

  private async json(path: string): Promise<any> {
    return (await this.get(path)).json();
  }

  private async get(path: string): Promise<Response> {
    // The browser's cache asks with the tag it has: what is known costs a 304.
    const answer = await fetch(this.base + path, { cache: "no-cache" });
    if (answer.ok || answer.status === 404) return answer;
    const read = (await answer.json().catch(() => ({}))) as { error?: any };
    throw new ApiError(answer.status, read.error?.code ?? 0, read.error?.text ?? answer.statusText);
  }

  private bring(entry: Entry): Promise<void> {
    const under = this.asked.get(entry.segment) ?? this.fetch(entry);
    this.asked.set(entry.segment, under);
    return under;
  }

  private async fetch(entry: Entry): Promise<void> {
    try {
      const answer = await this.get(`${this.index!.path}/${entry.segment}`);
      const bytes = new Uint8Array(await answer.arrayBuffer());
      const lines: DanmakuLine[] = answer.ok ? ofProto("DanmakuSegment", bytes).lines : [];
      // The room's order is that of seq: to a few moments that of offsets.
      lines.sort((a, b) => a.offset_ms - b.offset_ms || a.seq - b.seq);
      this.hold(entry.segment, { as: asOf(entry), lines });
    } finally {
      this.asked.delete(entry.segment);
    }
  }

  private hold(number: number, held: Held): void {
    this.held.delete(number);
    this.held.set(number, held);
    if (this.held.size > HELD_MAX) this.held.delete(this.held.keys().next().value!);
  }
}

const asOf = ({ version, lines, open }: Entry): string => `${version} ${lines} ${open}`;

function indexOf(path: string, shown: any): Index {
  const segments = new Map<number, Entry>();
  for (const entry of shown.segments as Entry[]) segments.set(entry.segment, entry);
  const { segment_ms, start_unix_ms = 0 } = shown;
  return { path, segment_ms, start_unix_ms, segments };
}

/** The first line that is not before a moment. */
function placeOf(lines: DanmakuLine[], at_ms: number): number {
  let [low, high] = [0, lines.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (lines[middle].offset_ms < at_ms) low = middle + 1;
    else high = middle;
  }
  return low;
}
