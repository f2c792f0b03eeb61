/**
 * One room, as a page uses it: what comes from it as events, what is said into it as calls.
 *
 * Owns no socket: {@link Uproar} gives it frames and takes what is due.
 */

import { Emitter } from "./emitter.js";
import { Class, Gap, Joined, Poll, RoomMessage, ServerError, Voted } from "./frames.js";
import { Fate, Heard, RoomEvent, RoomState, Said, unjudged } from "./room_state.js";

export interface RoomEvents {
  /** The room as it is: at every join, also after a reconnect. */
  joined: Joined;
  /** The next message, each once and in order. `own`: this client said it. */
  message: Heard;
  /** Messages that this client will not see, and why. */
  gap: Gap;
  /** Viewers and likes as they are now. */
  count: { viewers: number; likes: number };
  /** This client has said something: show it at once, its verdict follows. */
  said: Said;
  /** What became of it. `shed` and `expired`: show it to its own user alone, and say so. */
  verdict: Fate;
  /** Messages that a moderator took back: take them off the screen. */
  recalled: { seqs: number[] };
  /** The room's attributes as they are now. */
  attributes: { attributes: Record<string, string>; version: number };
  /** The pinned message as it is now; without one nothing is pinned. */
  pinned: { message?: RoomMessage };
  /** A poll as it stands: at its beginning, once a second while answers come, at its end. */
  poll: Poll;
  /** Who has come in, in rooms that tell it; `more`: others, without a name. */
  entered: { users: string[]; more: number };
  /** To a moderator, in a room with a delay: what viewers will see unless it is recalled before. */
  held: { messages: RoomMessage[] };
  /** What became of this client's answer to a poll; `code` 0: it is counted. */
  voted: Voted;
  /** The room was closed, or the user was removed (`code`); 0: it was asked for. */
  left: { code: number };
  /** The room cannot be joined, or something about it was refused. */
  error: ServerError;
}

/**
 * What a {@link Room} needs of its client.
 *
 * @internal
 */
export interface RoomHost {
  /** Something is due. */
  pump(): void;
  leave(room: Room): void;
  now_ms(): number;
  /** 16 bytes at most, never used again. */
  newId(): Uint8Array;
}

export class Room extends Emitter<RoomEvents> {
  /** Seconds between two messages of one user; 0: no slow mode. */
  slowMode_s = 0;
  /** Chat is for who follows the room for so many seconds; undefined: for everybody. */
  followersOnly_s?: number;
  /** @internal */
  readonly state: RoomState;
  private readonly verdicts = new Map<Uint8Array, (fate: Fate) => void>();

  /** @internal */
  constructor(
    readonly name: string,
    private readonly host: RoomHost,
  ) {
    super();
    this.state = new RoomState(name);
  }

  get viewers(): number {
    return this.state.viewers;
  }

  get likes(): number {
    return this.state.likes;
  }

  /** Free text of the application, set by whoever runs the room. */
  get attributes(): Record<string, string> {
    return this.state.live.attributes;
  }

  /** The pinned message. */
  get pinned(): RoomMessage | undefined {
    return this.state.live.pinned;
  }

  /** The room's polls, the newest last. */
  get polls(): Poll[] {
    return [...this.state.live.polls.values()];
  }

  get joined(): boolean {
    return this.state.joined;
  }

  /**
   * Says something to everybody in the room. The answer is what the room decided: it never fails,
   * it says `refused` with a `code`, `shed`, `lost`, and so on. Without a connection it waits 10 s
   * for one, then it is `offline`.
   */
  publish(content: string | Uint8Array, options: { class?: Class } = {}): Promise<Fate> {
    const body = typeof content === "string" ? { text: content } : { data: content };
    return this.say({ id: this.host.newId(), class: options.class ?? "chat", ...body });
  }

  /**
   * Gives `count` gifts of this name (1 to 32 bytes of UTF-8): the room shows gifts of one user and
   * one name as a combo, that of the message (`message.combo`). Needs a token that permits gifts.
   * `merged`: they are in the total of a message that others of the combo are in too.
   */
  sendGift(name: string, count = 1): Promise<Fate> {
    return this.say({ id: this.host.newId(), class: "gift", gift: name, count });
  }

  private say(said: Said): Promise<Fate> {
    return new Promise((resolve) => {
      this.verdicts.set(said.id, resolve);
      const taken = this.state.publish(said, this.host.now_ms());
      this.emit("said", said);
      if (taken) this.host.pump();
      else this.judged(unjudged(said, "offline"));
    });
  }

  /** Likes it. They are added up and told once a second; the sum comes back by `count`. */
  like(count = 1): void {
    this.state.like(count);
    this.host.pump();
  }

  /**
   * Answers a poll; what becomes of it comes by `voted`. The first answer of a user counts. Where
   * the connection breaks before, it is given again. `false`: another one is under way.
   */
  vote(poll: number, option: number): boolean {
    const taken = this.state.live.vote(poll, option);
    if (taken) this.host.pump();
    return taken;
  }

  /** Leaves it: nothing more comes. */
  leave(): void {
    this.host.leave(this);
  }

  // ------------------------------------------------------------ from the client

  /** @internal */
  tell(events: RoomEvent[]): { broken: boolean } {
    let broken = false;
    for (const event of events) {
      switch (event.is) {
        case "joined":
          this.slowMode_s = event.joined.slow_mode_s;
          this.followersOnly_s = event.joined.followers_only_s;
          this.emit("joined", event.joined);
          break;
        case "message":
          this.emit("message", event.message);
          break;
        case "gap":
          this.emit("gap", event.gap);
          break;
        case "count":
          this.emit("count", { viewers: event.viewers, likes: event.likes });
          break;
        case "fate":
          this.judged(event.fate);
          break;
        case "recalled":
          this.emit("recalled", { seqs: event.seqs });
          break;
        case "attributes":
          this.emit("attributes", { attributes: event.attributes, version: event.version });
          break;
        case "pinned":
          this.emit("pinned", { message: event.message });
          break;
        case "poll":
          this.emit("poll", event.poll);
          break;
        case "entered":
          this.emit("entered", { users: event.entered.users, more: event.entered.more });
          break;
        case "held":
          this.emit("held", { messages: event.messages });
          break;
        case "voted":
          this.emit("voted", event.voted);
          break;
        case "broken":
          broken = true;
          break;
      }
    }
    return { broken };
  }

  private judged(fate: Fate): void {
    this.verdicts.get(fate.id)?.(fate);
    this.verdicts.delete(fate.id);
    this.emit("verdict", fate);
  }

  /** @internal */
  gone(code: number): void {
    this.emit("left", { code });
  }

  /** @internal */
  refused(error: ServerError): void {
    this.emit("error", error);
  }
}
