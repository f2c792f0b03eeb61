/**
 * The user's conversations, as a page uses them: messages in order and once, sends that are kept
 * until they are answered, cursors, reactions, presence.
 *
 * Owns no socket and no rule: the rules are in {@link Inbox}.
 */

import { Emitter } from "./emitter.js";
import {
  ConversationState,
  FileReference,
  MessageKind,
  Reacted,
  RelationState,
  Sent,
  Settings,
  StoredMessage,
  UserCursor,
  UserPresence,
} from "./frames.js";
import { Inbox, InboxEvent, Older } from "./inbox.js";

export interface ConversationsEvents {
  /** The next message of a conversation: each seq once, in order, what was missed included. */
  message: { conversation: string; message: StoredMessage };
  /** A conversation changed: unread, members, pins and so on, as a sync tells it. */
  conversation: ConversationState;
  /** How far its users have read and received. */
  cursors: { conversation: string; users: UserCursor[] };
  /** How many members of a group have read messages of this user. */
  receipts: { conversation: string; counts: { seq: number; readers: number }[] };
  reacted: Reacted;
  /** What the user and another one are to each other. */
  related: RelationState;
  settings: Settings;
  presence: UserPresence[];
  /** Typing and the like: never stored. */
  signal: { conversation: string; name: string; data: Uint8Array; user: string };
  /** The store is another one: forget everything, it comes anew. */
  anew: undefined;
  /** Nothing more is missed of what there was when the device connected. */
  caughtUp: undefined;
}

/** What a message holds. */
export interface Content {
  text?: string;
  data?: Uint8Array;
  file?: Partial<FileReference>;
}

/** Why nothing was stored. */
export class SendRefused extends Error {
  constructor(readonly sent: Sent) {
    super(sent.text || `refused with code ${sent.code}`);
  }

  /** A number of PROTOCOL.md's table of codes. */
  get code(): number {
    return this.sent.code;
  }
}

/**
 * What {@link Conversations} needs of its client.
 *
 * @internal
 */
export interface ConversationsHost {
  pump(): void;
  /** Sends a frame now; `false`: there is no connection. */
  tell(frame: object): boolean;
  now_ms(): number;
  /** 16 bytes, never used again. */
  newId(): Uint8Array;
}

export class Conversations extends Emitter<ConversationsEvents> {
  /** @internal */
  readonly inbox: Inbox;
  private readonly answers = new Map<
    string,
    { resolve: (sent: Sent) => void; reject: (error: SendRefused) => void }
  >();
  private readonly olders = new Map<Older, (messages: StoredMessage[]) => void>();
  private watched: string[] = [];

  /** @internal */
  constructor(
    private readonly host: ConversationsHost,
    recent?: number,
  ) {
    super();
    this.inbox = new Inbox(recent);
  }

  /**
   * Sends a message to `user:NAME` or `group:ID`. Kept and sent again until it is answered, over
   * reconnects too: the answer comes after it was stored, or says why it will not be. `id`: of
   * {@link newId}, for who wants to know the message when it comes (its `client_msg_id`).
   */
  send(conversation: string, content: string | Content, id = this.newId()): Promise<Sent> {
    const body = typeof content === "string" ? { text: content } : content;
    return this.say(conversation, "message", body, undefined, id);
  }

  /** An id for {@link send}, never used again. */
  newId(): Uint8Array {
    return this.host.newId();
  }

  /**
   * What was said before `before_seq`: `count` messages and events at most, rising by seq; empty
   * where there is nothing before. Those that came once are not handed on by `message`.
   */
  older(conversation: string, before_seq: number, count: number): Promise<StoredMessage[]> {
    const asked = this.inbox.older(conversation, before_seq, count, this.host.now_ms());
    if (!asked) return Promise.resolve([]);
    return new Promise((resolve) => {
      this.olders.set(asked, resolve);
      this.host.pump();
    });
  }

  /** Erases a message of one's own for everybody. */
  recall(conversation: string, seq: number): Promise<Sent> {
    return this.say(conversation, "recall", {}, seq);
  }

  /** Replaces the text of a message of one's own. */
  edit(conversation: string, seq: number, text: string): Promise<Sent> {
    return this.say(conversation, "edit", { text }, seq);
  }

  pin(conversation: string, seq: number): Promise<Sent> {
    return this.say(conversation, "pin", {}, seq);
  }

  unpin(conversation: string, seq: number): Promise<Sent> {
    return this.say(conversation, "unpin", {}, seq);
  }

  private say(
    conversation: string,
    kind: MessageKind,
    content: Content,
    target_seq?: number,
    client_msg_id = this.host.newId(),
  ): Promise<Sent> {
    return new Promise((resolve, reject) => {
      this.answers.set(client_msg_id.join(), { resolve, reject });
      this.inbox.send({ conversation, client_msg_id, kind, ...content, target_seq });
      this.host.pump();
    });
  }

  /** The user has read everything up to there. */
  markRead(conversation: string, seq: number): void {
    this.inbox.mark(conversation, seq);
    this.host.pump();
  }

  /** The user reacts to a message; told again until it is answered by `reacted`. */
  react(conversation: string, seq: number, reaction: string, remove = false): void {
    this.inbox.react(conversation, seq, reaction, remove, this.host.now_ms());
    this.host.pump();
  }

  /** Typing and the like, to whoever is online. `false`: nobody was told. */
  signal(conversation: string, name: string, data = new Uint8Array()): boolean {
    return this.host.tell({ signal: { conversation, name, data } });
  }

  /** Whose presence is told, by name; replaces the list, and holds over reconnects. */
  watch(users: string[]): void {
    this.watched = users;
    this.host.tell({ watch: { users } });
  }

  /** How far a conversation was handed on, and how far its user has read it. */
  place(conversation: string): { last_seq: number; read_seq: number } {
    return this.inbox.place(conversation);
  }

  /** Sends that have no answer yet. */
  get unanswered(): number {
    return this.inbox.unanswered();
  }

  // ------------------------------------------------------------ from the client

  /** @internal */
  received(kind: string, body: unknown): void {
    for (const event of this.inbox.received(kind, body, this.host.now_ms())) this.tell(event);
    switch (kind) {
      case "welcome":
      case "resync": // presence is a hint: what was lost on the way is asked for anew (S-43)
        if (this.watched.length > 0) this.host.tell({ watch: { users: this.watched } });
        break;
      case "receipts":
        this.emit("receipts", body as ConversationsEvents["receipts"]);
        break;
      case "presence":
        this.emit("presence", (body as { users: UserPresence[] }).users);
        break;
      case "signal":
        this.emit("signal", body as ConversationsEvents["signal"]);
        break;
    }
  }

  private tell(event: InboxEvent): void {
    switch (event.is) {
      case "message":
        return this.emit("message", event);
      case "stored":
        return this.answered(event.sent)?.resolve(event.sent);
      case "refused":
        return this.answered(event.sent)?.reject(new SendRefused(event.sent));
      case "older":
        this.olders.get(event.asked)?.(event.messages);
        this.olders.delete(event.asked);
        return;
      case "reacted":
        return this.emit("reacted", event.reacted);
      case "related":
        return this.emit("related", event.state);
      case "settings":
        return this.emit("settings", event.settings);
      case "conversation":
        return this.emit("conversation", event.state);
      case "cursors":
        return this.emit("cursors", event);
      case "anew":
        return this.emit("anew", undefined);
      case "caughtUp":
        return this.emit("caughtUp", undefined);
    }
  }

  private answered(sent: Sent) {
    const key = sent.client_msg_id.join();
    const answer = this.answers.get(key);
    this.answers.delete(key);
    return answer;
  }
}
