/**
 * What a client knows of one room: its place in the stream, what it said and has no verdict on, and
 * likes that wait to be told. No socket, no clock: frames and moments in, events and frames out.
 */

import { toBase64 } from "./codec.js";
import { Class, Cursor, Gap, Joined, Outcome, Recalled, RoomMessage, Verdict } from "./frames.js";
import { LiveEvent, LiveState } from "./live_state.js";

/** Likes are told at most this often. */
export const LIKES_EVERY_MS = 1_000;
/** Likes of one frame; a server takes no more by default. */
export const LIKES_PER_FRAME = 100;
/** Frames of likes at once; more wait for the next second. */
const LIKE_FRAMES = 10;
/** Likes that wait. More are let go: a thumb does not tap that often. */
const LIKES_MAX = LIKES_PER_FRAME * LIKE_FRAMES;
/** Publishes that wait for the room to be joined, or for a verdict. More are refused at once. */
export const WAITING_MAX = 100;
/** A publish that could not be sent for so long is not sent any more: nobody wants it said late. */
export const STALE_MS = 10_000;
/** Own messages that are known again when they appear. */
const OWN_MAX = 200;
/** Messages whose user is known, for a recall of all that one has said: what a screen may show. */
const AUTHORS_MAX = 2_000;

/** Something said in the room by this client. */
export interface Said {
  id: Uint8Array;
  class: Class;
  text?: string;
  data?: Uint8Array;
  /** Class `gift`: its name, and how many. */
  gift?: string;
  count?: number;
}

/**
 * What became of it. `lost`: the connection broke before the room's verdict came. `offline`: it was
 * never sent, for there was no connection.
 */
export interface Fate extends Said {
  outcome: Outcome | "lost" | "offline";
  seq: number;
  code: number;
  retry_after_ms: number;
  /** What the platform says of its refusal, for people; else empty. */
  reason: string;
}

/** A message as it is handed on. */
export interface Heard extends RoomMessage {
  /** This client said it. */
  own: boolean;
  /** It was there when the room was joined, not said since. */
  history: boolean;
}

export type RoomEvent =
  | { is: "joined"; joined: Joined }
  | { is: "message"; message: Heard }
  | { is: "gap"; gap: Gap }
  | { is: "count"; viewers: number; likes: number }
  | { is: "fate"; fate: Fate }
  /** A message is missing without a gap: a defect, mended by another connection (S-8). */
  | { is: "broken"; from: number; to: number }
  | LiveEvent;

interface Waiting {
  said: Said;
  since_ms: number;
  sent: boolean;
}

export class RoomState {
  cursor?: Cursor;
  joined = false;
  viewers = 0;
  likes = 0;
  /** Messages that came again and were dropped. */
  duplicates = 0;
  readonly live: LiveState;
  private likesWaiting = 0;
  private likesFrom_ms = 0;
  private readonly waiting = new Map<string, Waiting>();
  private readonly own = new Set<string>();
  /** By seq, the oldest first; of the epoch of the cursor. */
  private readonly authors = new Map<number, string>();

  constructor(readonly room: string) {
    this.live = new LiveState(room);
  }

  /** How it is joined, from its cursor where there is one. */
  join(): { room: string; resume?: Cursor } {
    return this.cursor ? { room: this.room, resume: this.cursor } : { room: this.room };
  }

  /** The connection is gone. */
  disconnected(): void {
    this.joined = false;
  }

  // ------------------------------------------------------------ from the server

  received(kind: string, body: unknown): RoomEvent[] {
    switch (kind) {
      case "joined":
        return this.hasJoined(body as Joined);
      case "batch": {
        const batch = body as { epoch: string; messages: RoomMessage[] };
        return this.messages(batch.epoch, batch.messages);
      }
      case "gap":
        return this.missed(body as Gap);
      case "count": {
        const count = body as { viewers?: number; likes?: number };
        this.viewers = count.viewers ?? this.viewers;
        this.likes = count.likes ?? this.likes;
        return [{ is: "count", viewers: this.viewers, likes: this.likes }];
      }
      case "verdicts":
        return (body as { verdicts: Verdict[] }).verdicts.flatMap((one) => this.judged(one));
      case "recalled": {
        const { seqs, user, up_to_seq } = body as Recalled;
        for (const seq of seqs) this.authors.delete(seq);
        const all = user ? [...seqs, ...this.saidBy(user, up_to_seq)] : seqs;
        return all.length > 0 ? [{ is: "recalled", seqs: all }] : [];
      }
      default:
        return this.live.received(kind, body);
    }
  }

  private saidBy(user: string, up_to_seq: number): number[] {
    const found = [...this.authors].filter(([seq, author]) => author === user && seq <= up_to_seq);
    return found.map(([seq]) => seq);
  }

  private hasJoined(joined: Joined): RoomEvent[] {
    const first = this.cursor === undefined;
    this.joined = true;
    this.viewers = joined.viewers;
    this.likes = joined.likes;
    const events: RoomEvent[] = [{ is: "joined", joined }, ...this.live.joined(joined)];
    // After a gap the messages are what there is behind it; before, exactly what was missed.
    const before = this.cursor?.epoch === joined.epoch ? this.cursor : undefined;
    if (!before) this.authors.clear();
    const fresh = joined.messages.filter((message) => message.seq > (before?.seq ?? 0));
    for (const message of fresh) events.push(...this.hear(message, first || !before));
    this.cursor = { epoch: joined.epoch, seq: joined.seq };
    events.push({ is: "count", viewers: this.viewers, likes: this.likes });
    for (const [key, one] of this.waiting) {
      if (!one.sent) continue;
      // It went out on an older connection: whoever was heard has been judged by it.
      this.waiting.delete(key);
      const found = fresh.find((message) => toBase64(message.client_msg_id) === key);
      const outcome = found ? "accepted" : "lost";
      events.push(fate(one.said, outcome, found?.seq ?? 0));
    }
    return events;
  }

  private messages(epoch: string, messages: RoomMessage[]): RoomEvent[] {
    const events: RoomEvent[] = [];
    for (const message of messages) {
      const last = this.cursor?.epoch === epoch ? this.cursor.seq : undefined;
      if (last !== undefined && message.seq <= last) {
        this.duplicates += 1;
        continue;
      }
      if (last !== undefined && message.seq > last + 1) {
        events.push({ is: "broken", from: last + 1, to: message.seq - 1 });
        return events;
      }
      this.cursor = { epoch, seq: message.seq };
      events.push(...this.hear(message, false));
    }
    return events;
  }

  private hear(message: RoomMessage, history: boolean): RoomEvent[] {
    if (message.gone) return []; // recalled before it came: there is nothing to show
    this.authors.set(message.seq, message.user);
    if (this.authors.size > AUTHORS_MAX) this.authors.delete(this.authors.keys().next().value!);
    const own = this.own.has(toBase64(message.client_msg_id));
    return [{ is: "message", message: { ...message, own, history } }];
  }

  private missed(gap: Gap): RoomEvent[] {
    // With another epoch nothing is known of the place: `joined` tells it.
    if (gap.to_seq > 0) this.cursor = { epoch: gap.epoch, seq: gap.to_seq };
    else this.cursor = undefined;
    return [{ is: "gap", gap }];
  }

  private judged(verdict: Verdict): RoomEvent[] {
    const key = toBase64(verdict.client_msg_id);
    const one = this.waiting.get(key);
    if (!one) return [];
    this.waiting.delete(key);
    const { outcome, seq, code, retry_after_ms, text: reason } = verdict;
    return [{ is: "fate", fate: { ...one.said, outcome, seq, code, retry_after_ms, reason } }];
  }

  // ------------------------------------------------------------ from the user

  /** Something to say. `false`: too much of it waits already. */
  publish(said: Said, now_ms: number): boolean {
    if (this.waiting.size >= WAITING_MAX) return false;
    const key = toBase64(said.id);
    this.waiting.set(key, { said, since_ms: now_ms, sent: false });
    this.own.add(key);
    if (this.own.size > OWN_MAX) this.own.delete(this.own.values().next().value as string);
    return true;
  }

  /** Likes, added up until they are told. */
  like(count: number): void {
    this.likesWaiting = Math.min(this.likesWaiting + count, LIKES_MAX);
  }

  /** Frames to send now. */
  due(now_ms: number): object[] {
    if (!this.joined) return [];
    const frames: object[] = this.live.due();
    for (const one of this.waiting.values()) {
      if (one.sent) continue;
      one.sent = true;
      const { id, class: of, ...said } = one.said;
      frames.push({ publish: { room: this.room, class: of, client_msg_id: id, ...said } });
    }
    if (this.likesWaiting > 0 && now_ms >= this.likesFrom_ms) {
      this.likesFrom_ms = now_ms + LIKES_EVERY_MS;
      while (this.likesWaiting > 0) {
        const count = Math.min(this.likesWaiting, LIKES_PER_FRAME);
        this.likesWaiting -= count;
        frames.push({ publish: { room: this.room, class: "like", count } });
      }
    }
    return frames;
  }

  /** What waits in vain for a connection. */
  stale(now_ms: number): RoomEvent[] {
    const events: RoomEvent[] = [];
    for (const [key, one] of this.waiting) {
      if (one.sent || now_ms < one.since_ms + STALE_MS) continue;
      this.waiting.delete(key);
      events.push(fate(one.said, "offline", 0));
    }
    return events;
  }

  /** When {@link due} or {@link stale} has something, if nothing comes in before. */
  nextDue_ms(): number | undefined {
    const moments: number[] = [];
    if (this.joined && this.likesWaiting > 0) moments.push(this.likesFrom_ms);
    for (const one of this.waiting.values()) if (!one.sent) moments.push(one.since_ms + STALE_MS);
    return moments.length > 0 ? Math.min(...moments) : undefined;
  }
}

function fate(said: Said, outcome: Fate["outcome"], seq: number): RoomEvent {
  return { is: "fate", fate: unjudged(said, outcome, seq) };
}

/** What became of something that no verdict came for. */
export function unjudged(said: Said, outcome: Fate["outcome"], seq = 0): Fate {
  return { ...said, outcome, seq, code: 0, retry_after_ms: 0, reason: "" };
}
