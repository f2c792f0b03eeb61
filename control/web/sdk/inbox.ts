/**
 * A device's side of stored conversations, without a socket: the contract of PROTOCOL.md (S-25 to
 * S-49) as code, the same as proto/src/inbox.rs; and what a page needs beside it, which is to begin
 * with the newest messages and to ask for older ones.
 *
 * Owns what a device knows: how far it has each conversation, what came out of order, what it has
 * sent and not seen acknowledged, what its user has read. Frames and moments go in, frames and
 * messages come out, each message once and in order.
 */

import { toBase64 } from "./codec.js";
import {
  ConversationState,
  Pulled,
  Range,
  Reacted,
  RelationState,
  Send,
  Sent,
  ServerError,
  Settings,
  StoredMessage,
  Synced,
  UserCursor,
  Welcome,
} from "./frames.js";

/** A push that is ahead of its turn waits this long for those before it, then they are pulled. */
export const AHEAD_MS = 500;
/** Sends of one conversation that are under way at once; the next ones wait for all of them. */
export const BATCH_MAX = 32;
/** An answer that has not come after this long is asked for again. */
export const ANSWER_MS = 5_000;
/** Marks are told at most this often. */
export const MARK_EVERY_MS = 500;
/** Messages kept ahead of their turn, by conversation. More are dropped: they will be pulled. */
const AHEAD_MAX = 1_000;
/** Conversations marked by one frame, and ranges of one pull. */
const MARKS_MAX = 128;
const RANGES_MAX = 64;

const NO_GENERATION = "0".repeat(16);

/** What a device hands to its user. */
export type InboxEvent =
  /** The next message of a conversation: every seq once, rising by one. */
  | { is: "message"; conversation: string; message: StoredMessage }
  /** A send was stored. */
  | { is: "stored"; sent: Sent }
  /** A send was refused for good. */
  | { is: "refused"; sent: Sent }
  /** A reaction of the user stands or is gone; or it was refused (`code`). */
  | { is: "reacted"; reacted: Reacted }
  /** What the user and another one are to each other now. */
  | { is: "related"; state: RelationState }
  | { is: "settings"; settings: Settings }
  /** A conversation changed, as a sync tells it. */
  | { is: "conversation"; state: ConversationState }
  /** Cursors moved: the user's own ones or those of the other one. */
  | { is: "cursors"; conversation: string; users: UserCursor[] }
  /** The store is another one: whatever was said before is void, and comes anew. */
  | { is: "anew" }
  /** What was asked for by {@link Inbox.older}: rising by seq. */
  | { is: "older"; asked: Older; messages: StoredMessage[] }
  /** Nothing more is missed of what there was when the device connected. */
  | { is: "caughtUp" };

/** Messages before those a device began with, which its user wants to see. */
export interface Older {
  conversation: string;
  /** What has not come yet. */
  from_seq: number;
  to_seq: number;
  messages: StoredMessage[];
  /** Of the pull under way. */
  pull: number;
  due_ms: number;
}

/** How far: by the user's reading, and by what has arrived. */
class Far {
  read = 0;
  delivered = 0;

  raise(read: number, delivered: number): void {
    this.read = Math.max(this.read, read);
    this.delivered = Math.max(this.delivered, delivered);
  }

  set(other: Far): void {
    this.read = other.read;
    this.delivered = other.delivered;
  }

  isBeyond(other: Far): boolean {
    return this.read > other.read || this.delivered > other.delivered;
  }
}

class Conversation {
  /** Everything up to here was handed on. */
  last_seq = 0;
  /** There is something up to here. */
  head_seq = 0;
  /** Up to here there is nothing for this user. */
  floor_seq = 0;
  ahead = new Map<number, StoredMessage>();
  aheadSince_ms = 0;
  /** A pull is under way. */
  pulling = false;
  /** Sends without an answer, in their order; the first `underWay` of them were sent. */
  sends: Send[] = [];
  underWay = 0;
  answered = 0;
  sent_ms = 0;
  notBefore_ms = 0;
  /** Cursors: the device's own, what was told by this connection, what the server has. */
  own = new Far();
  told = new Far();
  kept = new Far();

  constructor(readonly name: string) {}

  confirmed(read: number, delivered: number): void {
    for (const far of [this.own, this.told, this.kept]) far.raise(read, delivered);
  }

  /** Nothing up to there is handed on. */
  skip(to_seq: number): void {
    this.last_seq = Math.max(this.last_seq, to_seq);
    for (const seq of this.ahead.keys()) if (seq <= this.last_seq) this.ahead.delete(seq);
  }

  firstAhead(): number | undefined {
    return this.ahead.size > 0 ? Math.min(...this.ahead.keys()) : undefined;
  }

  /** Hands on what is next, and all that waited for it. */
  handOn(events: InboxEvent[]): void {
    for (;;) {
      const message = this.ahead.get(this.last_seq + 1);
      if (!message) break;
      this.ahead.delete(message.seq);
      this.last_seq += 1;
      events.push({ is: "message", conversation: this.name, message });
    }
    if (this.name.startsWith("user:")) this.own.raise(0, this.last_seq);
  }

  /**
   * All up to there was asked for and answered: what did not come is kept no longer, or was never
   * this user's, and is not waited for.
   */
  pass(answered: number, events: InboxEvent[]): void {
    this.handOn(events);
    while (this.last_seq < answered) {
      const first = this.firstAhead();
      this.last_seq = Math.min(first === undefined ? answered : first - 1, answered);
      this.handOn(events);
    }
  }

  /** Up to where something is missing that is to be pulled now. */
  missing(caughtUp: boolean, now_ms: number): number | undefined {
    if (this.pulling || this.last_seq >= this.head_seq) return undefined;
    // After a connect at once; else pushes may still be on their way.
    const waited = this.ahead.size === 0 || now_ms >= this.aheadSince_ms + AHEAD_MS;
    if (caughtUp && !waited) return undefined;
    const first = this.firstAhead();
    return Math.max(first === undefined ? this.head_seq : first - 1, this.last_seq + 1);
  }

  sendDue(now_ms: number, frames: object[]): void {
    if (this.underWay > 0 && now_ms < this.sent_ms + ANSWER_MS) return;
    if (this.sends.length === 0 || now_ms < this.notBefore_ms) return;
    this.underWay = Math.min(this.sends.length, BATCH_MAX);
    this.answered = 0;
    this.sent_ms = now_ms;
    for (const send of this.sends.slice(0, BATCH_MAX)) frames.push({ send });
  }

  nextDue_ms(): number[] {
    const moments: number[] = [];
    if (this.sends.length > 0) {
      moments.push(this.underWay === 0 ? this.notBefore_ms : this.sent_ms + ANSWER_MS);
    }
    if (this.last_seq < this.head_seq && !this.pulling) moments.push(this.aheadSince_ms + AHEAD_MS);
    return moments;
  }
}

interface Wanted {
  conversation: string;
  seq: number;
  reaction: string;
  remove: boolean;
  /** When it is to be told, again or for the first time. */
  due_ms: number;
}

export class Inbox {
  private readonly conversations = new Map<string, Conversation>();
  private generation = NO_GENERATION;
  private cursor = "";
  /** The cursor of the page that comes next. */
  private page = "";
  private syncing = false;
  /** The sync under way was asked of the store before this one: its answer is void. */
  private syncIsVoid = false;
  private syncDue_ms?: number;
  private isCaughtUp = false;
  private pullId = 0;
  /** Of the pull under way: its conversations, and up to where. */
  private pull?: { id: number; asked: Range[] };
  private user = "";
  private markFrom_ms = 0;
  private readonly wanted = new Map<string, Wanted>();
  private readonly olders = new Set<Older>();
  /** By user: the moment of what was last said of it. */
  private related_ms = new Map<string, number>();
  private settings_ms = 0;
  /** A sync under way names all others there are: since when that is so, and whom it has named. */
  private anew?: { since_ms: number; named: Set<string> };
  /** Syncs and pulls that were asked for. */
  requests = 0;
  /** Messages that came again and were dropped. */
  duplicates = 0;

  /**
   * `recent`: of a conversation that this device has nothing of, so many of the newest messages are
   * handed on. Those before are asked for by {@link older}.
   */
  constructor(private readonly recent = Infinity) {}

  private of(name: string): Conversation {
    const known = this.conversations.get(name) ?? new Conversation(name);
    this.conversations.set(name, known);
    return known;
  }

  // ------------------------------------------------------------ from the server

  /** Takes a frame in: what it means for the user. {@link due} tells what to send then. */
  received(kind: string, body: unknown, now_ms: number): InboxEvent[] {
    const events: InboxEvent[] = [];
    switch (kind) {
      case "welcome":
        this.welcomed(body as Welcome, now_ms, events);
        break;
      case "stored": {
        const stored = body as { conversation: string; messages: StoredMessage[] };
        this.stored(stored.conversation, stored.messages, now_ms, events);
        break;
      }
      case "sent":
        this.sent(body as Sent, now_ms, events);
        break;
      case "synced":
        this.synced(body as Synced, now_ms, events);
        break;
      case "pulled":
        this.pulled(body as Pulled, now_ms, events);
        break;
      case "cursors":
        this.cursorsMoved(body as { conversation: string; users: UserCursor[] }, events);
        break;
      case "reacted":
        this.reacted(body as Reacted, now_ms, events);
        break;
      case "relations":
        this.related((body as { users: RelationState[] }).users, events);
        break;
      case "settings":
        this.set(body as Settings, events);
        break;
      case "resync": {
        const resync = body as { spread_ms: number; generation: string };
        if (this.isOf(resync.generation, now_ms, events)) {
          // Spread by what this device has asked: no clock and no dice here.
          const spread = Math.max(resync.spread_ms, 1);
          this.syncDue_ms ??= now_ms + ((this.requests * 0x9e3779b1) % spread);
        }
        break;
      }
      case "error":
        this.failed(body as ServerError, now_ms);
        break;
    }
    if (!this.isCaughtUp && !this.syncing && this.syncDue_ms === undefined) {
      if ([...this.conversations.values()].every((one) => one.last_seq >= one.head_seq)) {
        this.isCaughtUp = true;
        events.push({ is: "caughtUp" });
      }
    }
    return events;
  }

  /** A new connection: whatever was under way on an older one is asked for again. */
  private welcomed(welcome: Welcome, now_ms: number, events: InboxEvent[]): void {
    this.user = welcome.user;
    this.syncing = this.syncIsVoid = this.isCaughtUp = false;
    this.pull = undefined;
    for (const one of this.conversations.values()) {
      one.pulling = false;
      one.underWay = one.answered = one.notBefore_ms = 0;
      one.told.set(one.kept);
    }
    for (const wanted of this.wanted.values()) wanted.due_ms = now_ms;
    for (const older of this.olders) older.due_ms = now_ms;
    this.page = this.cursor;
    this.anew = undefined;
    this.syncDue_ms = now_ms;
    this.isOf(welcome.generation, now_ms, events);
  }

  /**
   * A frame names the life of the store it comes from; `false`: it is another one than was known.
   * Then seqs begin anew, and so does this device. 0 names none.
   */
  private isOf(generation: string, now_ms: number, events: InboxEvent[]): boolean {
    const known = this.generation;
    if (generation === NO_GENERATION || generation === known) return true;
    this.generation = generation;
    if (known === NO_GENERATION) return true;
    this.cursor = this.page = "";
    this.pull = undefined;
    this.related_ms.clear();
    this.settings_ms = 0;
    this.anew = undefined;
    for (const older of this.olders) this.olderEnds(older, events);
    for (const [name, one] of this.conversations) {
      const fresh = new Conversation(name);
      fresh.sends = one.sends;
      this.conversations.set(name, fresh);
    }
    // What is under way asks on from a cursor of the store before: what it names is not all.
    this.syncIsVoid = this.syncing;
    this.isCaughtUp = false;
    this.syncDue_ms = now_ms;
    events.push({ is: "anew" });
    return false;
  }

  private stored(
    name: string,
    messages: StoredMessage[],
    now_ms: number,
    events: InboxEvent[],
  ): void {
    const one = this.of(name);
    for (const message of messages) {
      one.head_seq = Math.max(one.head_seq, message.seq);
      if (message.seq <= one.last_seq || one.ahead.has(message.seq)) {
        this.duplicates += 1;
      } else if (one.ahead.size < AHEAD_MAX) {
        if (one.ahead.size === 0) one.aheadSince_ms = now_ms;
        one.ahead.set(message.seq, message);
      }
      one.handOn(events);
    }
  }

  private sent(sent: Sent, now_ms: number, events: InboxEvent[]): void {
    // It was stored, but its place is one of the new store: it is asked for again.
    if (!this.isOf(sent.generation, now_ms, events)) return;
    const one = this.conversations.get(sent.conversation);
    if (!one) return;
    const id = toBase64(sent.client_msg_id);
    const sentNow = one.sends.slice(0, one.underWay);
    const place = sentNow.findIndex((send) => toBase64(send.client_msg_id) === id);
    if (place < 0) return;
    one.answered += 1;
    if (sent.code !== 0 && sent.retry) {
      one.notBefore_ms = Math.max(one.notBefore_ms, now_ms + Math.max(sent.retry_after_ms, 1));
    } else {
      one.sends.splice(place, 1);
      one.underWay -= 1;
      one.answered -= 1;
      events.push({ is: sent.code === 0 ? "stored" : "refused", sent });
    }
    if (one.answered >= one.underWay) one.underWay = one.answered = 0;
  }

  private synced(synced: Synced, now_ms: number, events: InboxEvent[]): void {
    this.syncing = false;
    const isVoid = this.syncIsVoid;
    this.syncIsVoid = false;
    if (!this.isOf(synced.generation, now_ms, events) || isVoid) return;
    if (synced.relations_anew_ms > 0) {
      this.anew = { since_ms: synced.relations_anew_ms, named: new Set() };
    }
    this.related(synced.relations, events);
    this.endUnnamed(synced, events);
    if (synced.settings) this.set(synced.settings, events);
    for (const state of synced.conversations) {
      const one = this.of(state.conversation);
      one.floor_seq = Math.max(one.floor_seq, state.floor_seq);
      one.skip(Math.max(state.floor_seq, one.last_seq === 0 ? state.head_seq - this.recent : 0));
      one.head_seq = Math.max(one.head_seq, state.head_seq);
      one.confirmed(state.read_seq, 0);
      if (state.left) {
        // Nobody takes marks of who has left.
        one.own.set(one.kept);
        one.told.set(one.kept);
      }
      events.push({ is: "conversation", state });
    }
    this.page = synced.cursor;
    if (synced.done) this.cursor = synced.cursor;
    else this.syncDue_ms = now_ms;
  }

  /** Of what is told of others, what is newer than what was said of them. */
  private related(users: RelationState[], events: InboxEvent[]): void {
    for (const state of users) {
      if (state.changed_ms < (this.related_ms.get(state.user) ?? 0)) continue;
      this.related_ms.set(state.user, state.changed_ms);
      events.push({ is: "related", state });
    }
  }

  /** Where a sync names all others there are, those it has not named once it is done are over. */
  private endUnnamed(synced: Synced, events: InboxEvent[]): void {
    if (!this.anew) return;
    const { since_ms, named } = this.anew;
    for (const state of synced.relations) named.add(state.user);
    if (!synced.done) return;
    for (const [user, known_ms] of this.related_ms) {
      if (known_ms >= since_ms || named.has(user)) continue;
      this.related_ms.delete(user);
      const over = { friend: false, asked: false, asking: false, blocks: false, follows: false };
      events.push({ is: "related", state: { user, ...over, changed_ms: known_ms } });
    }
    this.anew = undefined;
  }

  private set(settings: Settings, events: InboxEvent[]): void {
    if (settings.changed_ms < this.settings_ms) return;
    this.settings_ms = settings.changed_ms;
    events.push({ is: "settings", settings });
  }

  private pulled(pulled: Pulled, now_ms: number, events: InboxEvent[]): void {
    for (const older of this.olders) {
      if (older.pull === pulled.id) return this.olderCame(older, pulled, now_ms, events);
    }
    // Not asked for any more: its seqs may be of the store before.
    if (this.pull?.id !== pulled.id) return;
    const { asked } = this.pull;
    this.pull = undefined;
    for (const part of pulled.parts) this.stored(part.conversation, part.messages, now_ms, events);
    for (const { conversation, to_seq } of asked) {
      const one = this.conversations.get(conversation);
      if (!one) continue;
      one.pulling = false;
      const rest = pulled.rest.find((rest) => rest.conversation === conversation);
      one.pass(rest ? Math.min(rest.from_seq - 1, to_seq) : to_seq, events);
    }
  }

  private olderCame(older: Older, pulled: Pulled, now_ms: number, events: InboxEvent[]): void {
    for (const part of pulled.parts) older.messages.push(...part.messages);
    const [rest] = pulled.rest;
    if (!rest) return this.olderEnds(older, events);
    older.from_seq = rest.from_seq;
    older.due_ms = now_ms;
  }

  private olderEnds(older: Older, events: InboxEvent[]): void {
    this.olders.delete(older);
    events.push({ is: "older", asked: older, messages: older.messages });
  }

  /** Cursors have moved: the user's own ones are what the server has. */
  private cursorsMoved(
    cursors: { conversation: string; users: UserCursor[] },
    events: InboxEvent[],
  ): void {
    const one = this.conversations.get(cursors.conversation);
    for (const moved of cursors.users) {
      if (moved.user === this.user) one?.confirmed(moved.read_seq, moved.delivered_seq);
    }
    events.push({ is: "cursors", ...cursors });
  }

  private reacted(reacted: Reacted, now_ms: number, events: InboxEvent[]): void {
    const key = keyOf(reacted);
    const asked = this.wanted.get(key);
    const isAsked = asked?.remove === reacted.remove;
    if (reacted.code !== 0 && reacted.retry) {
      if (asked && isAsked) asked.due_ms = now_ms + Math.max(reacted.retry_after_ms, 1);
      return;
    }
    if (isAsked) this.wanted.delete(key);
    events.push({ is: "reacted", reacted });
  }

  /** A refused sync, pull or mark is told again. */
  private failed(error: ServerError, now_ms: number): void {
    if (!error.retry || error.room !== "") return;
    this.syncing = this.syncIsVoid = false;
    this.pull = undefined;
    for (const one of this.conversations.values()) {
      one.pulling = false;
      one.told.set(one.kept);
    }
    this.syncDue_ms = now_ms + Math.max(error.retry_after_ms, 100);
  }

  // ------------------------------------------------------------ from the user

  /** A message, sent now or as soon as those before it are stored. Its id must be new. */
  send(send: Send): void {
    this.of(send.conversation).sends.push(send);
  }

  /** The user has read everything up to here. More than was handed on cannot have been read. */
  mark(conversation: string, read_seq: number): void {
    const one = this.conversations.get(conversation);
    one?.own.raise(Math.min(read_seq, one.last_seq), 0);
  }

  /** The user reacts to a message, or takes it back. */
  react(
    conversation: string,
    seq: number,
    reaction: string,
    remove: boolean,
    now_ms: number,
  ): void {
    const wanted = { conversation, seq, reaction, remove, due_ms: now_ms };
    this.wanted.set(keyOf(wanted), wanted);
  }

  /**
   * The user wants to see what was said before: `count` messages at most that end before a seq.
   * `undefined`: there is nothing.
   */
  older(
    conversation: string,
    before_seq: number,
    count: number,
    now_ms: number,
  ): Older | undefined {
    const floor_seq = this.conversations.get(conversation)?.floor_seq ?? 0;
    const from_seq = Math.max(floor_seq + 1, before_seq - count);
    const to_seq = before_seq - 1;
    if (to_seq < from_seq) return undefined;
    const older = { conversation, from_seq, to_seq, messages: [], pull: 0, due_ms: now_ms };
    this.olders.add(older);
    return older;
  }

  /** Sends that have no answer. */
  unanswered(): number {
    return [...this.conversations.values()].reduce((sum, one) => sum + one.sends.length, 0);
  }

  /** How far a conversation was handed on, and how far its user has read it. */
  place(conversation: string): { last_seq: number; read_seq: number } {
    const one = this.conversations.get(conversation);
    return { last_seq: one?.last_seq ?? 0, read_seq: one?.own.read ?? 0 };
  }

  // ------------------------------------------------------------ to the server

  /**
   * What is to be sent now. Call it after everything that came in, and when {@link nextDue_ms}
   * says.
   */
  due(now_ms: number): object[] {
    const frames: object[] = [];
    if (!this.syncing && this.syncDue_ms !== undefined && this.syncDue_ms <= now_ms) {
      this.syncing = true;
      this.syncDue_ms = undefined;
      this.requests += 1;
      frames.push({ sync: { cursor: this.page } });
    }
    this.pullDue(now_ms, frames);
    this.olderDue(now_ms, frames);
    for (const one of this.conversations.values()) one.sendDue(now_ms, frames);
    for (const wanted of this.wanted.values()) {
      if (wanted.due_ms > now_ms) continue;
      wanted.due_ms = now_ms + ANSWER_MS;
      const { conversation, seq, reaction, remove } = wanted;
      frames.push({ react: { conversation, seq, reaction, remove } });
    }
    this.markDue(now_ms, frames);
    return frames;
  }

  /** Pulls what is missing: many ranges in one request, one request at a time. */
  private pullDue(now_ms: number, frames: object[]): void {
    if (this.syncing || this.syncDue_ms !== undefined || this.pull) return;
    const ranges: Range[] = [];
    for (const one of this.conversations.values()) {
      const to_seq = one.missing(this.isCaughtUp, now_ms);
      if (to_seq === undefined) continue;
      one.pulling = true;
      ranges.push({ conversation: one.name, from_seq: one.last_seq + 1, to_seq });
      if (ranges.length === RANGES_MAX) break;
    }
    if (ranges.length === 0) return;
    this.pullId += 1;
    this.requests += 1;
    this.pull = { id: this.pullId, asked: ranges };
    frames.push({ pull: { id: this.pullId, ranges } });
  }

  private olderDue(now_ms: number, frames: object[]): void {
    if (!this.isInSync()) return;
    for (const older of this.olders) {
      if (older.due_ms > now_ms) continue;
      this.pullId += 1;
      this.requests += 1;
      older.pull = this.pullId;
      older.due_ms = now_ms + ANSWER_MS;
      const { conversation, from_seq, to_seq } = older;
      frames.push({ pull: { id: older.pull, ranges: [{ conversation, from_seq, to_seq }] } });
    }
  }

  /** A sync has told that the seqs are still those of this store, and what need not be told. */
  private isInSync(): boolean {
    const known = this.generation !== NO_GENERATION;
    return known && !this.syncing && this.syncDue_ms === undefined;
  }

  private markDue(now_ms: number, frames: object[]): void {
    if (!this.isInSync() || now_ms < this.markFrom_ms) return;
    const marks: object[] = [];
    for (const one of this.conversations.values()) {
      if (!one.own.isBeyond(one.told) || marks.length === MARKS_MAX) continue;
      one.told.set(one.own);
      const { read, delivered } = one.own;
      marks.push({ conversation: one.name, read_seq: read, delivered_seq: delivered });
    }
    if (marks.length === 0) return;
    this.markFrom_ms = now_ms + MARK_EVERY_MS;
    frames.push({ mark: { marks } });
  }

  /** When {@link due} has something to send, if nothing comes in before. */
  nextDue_ms(): number | undefined {
    const moments: number[] = [];
    if (this.syncDue_ms !== undefined && !this.syncing) moments.push(this.syncDue_ms);
    for (const one of this.conversations.values()) moments.push(...one.nextDue_ms());
    for (const wanted of this.wanted.values()) moments.push(wanted.due_ms);
    const marks = [...this.conversations.values()].some((one) => one.own.isBeyond(one.told));
    if (this.isInSync()) for (const older of this.olders) moments.push(older.due_ms);
    if (marks && this.isInSync()) moments.push(this.markFrom_ms);
    return moments.length > 0 ? Math.min(...moments) : undefined;
  }
}

const keyOf = (of: { conversation: string; seq: number; reaction: string }): string =>
  `${of.conversation}\n${of.seq}\n${of.reaction}`;
