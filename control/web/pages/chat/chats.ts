/**
 * The user's conversations as the page knows them: messages, what is unread, who has what.
 *
 * Owns no element and no socket: events of the SDK go in, the page asks and draws. What an event
 * says about an older message (recall, edit, reactions) is written into that message.
 */

import { Conversations, ConversationState, StoredMessage, UserCursor } from "../../sdk/index.js";
import { SendRefused } from "../../sdk/index.js";

/** Of each conversation that is not open so many messages are kept; older ones are asked for. */
export const KEPT_MAX = 200;
/** Messages and events of one request for older ones. */
export const OLDER = 50;
/** Somebody who types is told of for so long after the last sign. */
const TYPING_MS = 5_000;

/** A message of one's own that is not stored. */
export interface Pending {
  id: Uint8Array;
  text: string;
  /** Why it was refused; empty: it is on its way. */
  why: string;
  code: number;
}

/** How far a message of one's own has come. */
export type Reach = "sent" | "delivered" | "read";

export class Chat {
  /** Messages and notices, rising by seq. */
  messages: StoredMessage[] = [];
  /** Of one's own that are not stored. */
  pending: Pending[] = [];
  state?: ConversationState;
  /** By seq of one's own message in a group: how many have read it. */
  readonly readers = new Map<number, number>();
  /** Everything from here on was handed on or asked for; 0: nothing was. */
  first_seq = 0;
  last_seq = 0;
  read_seq = 0;
  private peer_read_seq = 0;
  private peer_delivered_seq = 0;
  /** Unread ones up to `counted_seq`, as the server counted them. */
  private counted = 0;
  private counted_seq = 0;
  /** Who types, and until when it is believed. */
  readonly typing = new Map<string, number>();
  private loading?: Promise<void>;
  /** It was read in the log that this user is no member any more. */
  private isOut = false;

  constructor(
    readonly name: string,
    private readonly me: string,
  ) {}

  get isGroup(): boolean {
    return this.name.startsWith("group:");
  }

  /** The other one. */
  get peer(): string {
    return this.isGroup ? "" : this.name.slice("user:".length);
  }

  get title(): string {
    return this.isGroup ? (this.state?.group?.name ?? this.name) : this.peer;
  }

  get left(): boolean {
    return this.isOut || (this.state?.left ?? false);
  }

  get members(): number {
    return this.state?.group?.members ?? 0;
  }

  get unread(): number {
    return this.counted + this.unreadAfter(this.counted_seq);
  }

  get last(): StoredMessage | undefined {
    return this.messages.at(-1);
  }

  /** When something was last said, for the order of the list. */
  get moment_ms(): number {
    return this.last?.time_ms ?? this.state?.changed_ms ?? 0;
  }

  reach(seq: number): Reach {
    if (seq <= this.peer_read_seq) return "read";
    return seq <= this.peer_delivered_seq ? "delivered" : "sent";
  }

  find(seq: number): StoredMessage | undefined {
    return this.messages.find((message) => message.seq === seq);
  }

  // ------------------------------------------------------------ what comes

  changed(state: ConversationState): void {
    this.state = state;
    this.peer_read_seq = Math.max(this.peer_read_seq, state.peer_read_seq);
    this.peer_delivered_seq = Math.max(this.peer_delivered_seq, state.peer_delivered_seq);
    this.counted = state.unread;
    this.counted_seq = state.head_seq;
    this.isOut = state.left;
    this.hasRead(state.read_seq);
  }

  cursors(users: UserCursor[]): void {
    for (const { user, read_seq, delivered_seq } of users) {
      if (user === this.me) {
        this.hasRead(read_seq);
      } else {
        this.peer_read_seq = Math.max(this.peer_read_seq, read_seq);
        this.peer_delivered_seq = Math.max(this.peer_delivered_seq, delivered_seq, read_seq);
      }
    }
  }

  /** The next message or event. The message it changed, if it is here; itself, if it is shown. */
  take(message: StoredMessage): StoredMessage | undefined {
    if (this.first_seq === 0) this.first_seq = message.seq;
    this.last_seq = message.seq;
    this.typing.delete(message.user);
    if (message.kind === "message" || message.kind === "notice") {
      this.messages.push(message);
      this.noticed(message);
      if (message.user !== this.me) return message;
      const id = message.client_msg_id.join();
      this.pending = this.pending.filter((one) => one.id.join() !== id);
      this.hasRead(message.seq);
      return message;
    }
    const target = this.find(message.target_seq);
    if (!target) return undefined;
    if (message.kind === "recall") Object.assign(target, { gone: true, text: "", reactions: [] });
    if (message.kind === "reactions") target.reactions = message.reactions;
    const isNewest = message.kind === "edit" && message.seq >= target.edited_seq;
    if (isNewest && message.text !== "") {
      target.text = message.text;
      target.edited_seq = message.seq;
    }
    return target;
  }

  /** What a notice says about the group that no sync has told yet. */
  private noticed({ seq, notice }: StoredMessage): void {
    if (!notice || seq <= this.counted_seq) return;
    const goes = notice.what === "left" || notice.what === "removed";
    if (notice.what === "ended" || (goes && notice.users.includes(this.me))) this.isOut = true;
    const group = this.state?.group;
    if (!group) return;
    const many = notice.users.length + notice.more;
    if (notice.what === "joined") group.members += many;
    if (goes) group.members -= many;
    if (notice.what === "renamed") group.name = notice.text;
  }

  private hasRead(seq: number): void {
    if (seq <= this.read_seq) return;
    this.read_seq = seq;
    if (seq >= this.counted_seq) this.counted = 0;
    // Of what lies between only the server knows the number, unless all of it is here.
    else if (this.first_seq > 0 && this.first_seq <= seq + 1) {
      this.counted = this.unreadAfter(seq) - this.unreadAfter(this.counted_seq);
    }
  }

  /** Messages of others behind a seq and behind what was read. */
  private unreadAfter(seq: number): number {
    const from = Math.max(seq, this.read_seq);
    let count = 0;
    for (let place = this.messages.length - 1; place >= 0; place -= 1) {
      const { seq: at, kind, user } = this.messages[place];
      if (at <= from) break;
      if (kind === "message" && user !== this.me) count += 1;
    }
    return count;
  }

  /** Lets go what was read long ago: it is asked for when somebody scrolls back. */
  trim(): void {
    if (this.messages.length <= KEPT_MAX || this.loading) return;
    this.messages = this.messages.slice(-KEPT_MAX);
    this.first_seq = this.messages[0].seq;
  }

  // ------------------------------------------------------------ what is asked

  /** Older messages, if there are any; asked for once at a time. */
  older(conversations: Conversations): Promise<void> {
    this.loading ??= this.ask(conversations).finally(() => (this.loading = undefined));
    return this.loading;
  }

  private async ask(conversations: Conversations): Promise<void> {
    const floor_seq = this.state?.floor_seq ?? 0;
    const before = this.messages.length;
    // Pages of events alone show nothing: the next one is asked for.
    while (this.first_seq > floor_seq + 1 && this.messages.length === before) {
      const came = await conversations.older(this.name, this.first_seq, OLDER);
      this.first_seq = Math.max(this.first_seq - OLDER, floor_seq + 1);
      const shown = came.filter(({ kind }) => kind === "message" || kind === "notice");
      this.messages.unshift(...shown);
    }
  }

  get hasOlder(): boolean {
    return this.first_seq > (this.state?.floor_seq ?? 0) + 1;
  }

  /** Sends a text; the promise is done when it was stored or refused. */
  async send(conversations: Conversations, text: string, told: () => void): Promise<void> {
    const id = conversations.newId();
    const pending: Pending = { id, text, why: "", code: 0 };
    this.pending.push(pending);
    told();
    try {
      await conversations.send(this.name, text, id);
      // It comes as a message too, before this or after it: that takes it from the list.
    } catch (error) {
      pending.why = (error as Error).message;
      pending.code = error instanceof SendRefused ? error.code : 0;
      told();
    }
  }

  drop(pending: Pending): void {
    this.pending = this.pending.filter((one) => one !== pending);
  }

  types(user: string, now_ms: number): void {
    this.typing.set(user, now_ms + TYPING_MS);
  }

  typingNow(now_ms: number): string[] {
    for (const [user, until_ms] of this.typing) if (until_ms <= now_ms) this.typing.delete(user);
    return [...this.typing.keys()];
  }
}

/** All of them, by name. */
export class Chats {
  readonly all = new Map<string, Chat>();

  constructor(readonly me: string) {}

  of(name: string): Chat {
    const known = this.all.get(name) ?? new Chat(name, this.me);
    this.all.set(name, known);
    return known;
  }

  /** What was last said in comes first. */
  sorted(): Chat[] {
    return [...this.all.values()].sort((a, b) => b.moment_ms - a.moment_ms);
  }
}
