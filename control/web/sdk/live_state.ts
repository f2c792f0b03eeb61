/**
 * What a client knows of a room beside its messages: attributes, the pinned message, polls, and its
 * own answers to them. No socket, no clock: frames in, events and frames out.
 */

import { Attributes, Entered, Held, Joined, Pinned, Poll, RoomMessage, Voted } from "./frames.js";

export type LiveEvent =
  | { is: "recalled"; seqs: number[] }
  | { is: "attributes"; attributes: Record<string, string>; version: number }
  | { is: "pinned"; message?: RoomMessage }
  | { is: "poll"; poll: Poll }
  | { is: "voted"; voted: Voted }
  | { is: "held"; messages: RoomMessage[] }
  | { is: "entered"; entered: Entered }
  /** A change of attributes is missing: a defect, mended by another connection (S-51). */
  | { is: "broken"; from: number; to: number };

export class LiveState {
  attributes: Record<string, string> = {};
  version = 0;
  pinned?: RoomMessage;
  readonly polls = new Map<number, Poll>();
  /** Own answers without a word on them, by poll. */
  private readonly answers = new Map<number, { option: number; sent: boolean }>();

  constructor(private readonly room: string) {}

  /** The room as it was joined: what is told in it holds whatever was known before. */
  joined(joined: Joined): LiveEvent[] {
    this.attributes = joined.attributes;
    this.version = joined.attributes_version;
    const before = this.pinned;
    this.pinned = joined.pinned;
    this.polls.clear();
    const events: LiveEvent[] = [];
    if (joined.recalled.length > 0) events.push({ is: "recalled", seqs: joined.recalled });
    if (this.pinned || before) events.push({ is: "pinned", message: this.pinned });
    for (const poll of joined.polls) events.push(...this.told(poll));
    // No word on them came: the room knows whether they were counted.
    for (const answer of this.answers.values()) answer.sent = false;
    return events;
  }

  received(kind: string, body: unknown): LiveEvent[] {
    switch (kind) {
      case "attributes":
        return this.changed(body as Attributes);
      case "pinned":
        this.pinned = (body as Pinned).message;
        return [{ is: "pinned", message: this.pinned }];
      case "poll":
        return this.told(body as Poll);
      case "entered":
        return [{ is: "entered", entered: body as Entered }];
      case "held":
        return [{ is: "held", messages: (body as Held).messages }];
      case "voted":
        return this.judged(body as Voted);
      default:
        return [];
    }
  }

  private changed(change: Attributes): LiveEvent[] {
    if (change.version <= this.version) return [];
    if (!change.whole && change.from_version > this.version) {
      return [{ is: "broken", from: this.version, to: change.from_version }];
    }
    const attributes = change.whole ? {} : { ...this.attributes };
    for (const key of change.removed) delete attributes[key];
    this.attributes = Object.assign(attributes, change.set);
    this.version = change.version;
    return [{ is: "attributes", attributes: this.attributes, version: this.version }];
  }

  private told(told: Poll): LiveEvent[] {
    const known = this.polls.get(told.poll);
    // What comes behind the last word is older than it.
    if (known?.over) return [];
    const { question, options } = told.question === "" && known ? known : told;
    const poll = { ...told, question, options };
    this.polls.set(poll.poll, poll);
    return [{ is: "poll", poll }];
  }

  private judged(voted: Voted): LiveEvent[] {
    this.answers.delete(voted.poll);
    return [{ is: "voted", voted }];
  }

  /** Answers a poll; `false`: an answer to it is under way. */
  vote(poll: number, option: number): boolean {
    if (this.answers.has(poll)) return false;
    this.answers.set(poll, { option, sent: false });
    return true;
  }

  /** Frames to send now. */
  due(): object[] {
    const frames: object[] = [];
    for (const [poll, answer] of this.answers) {
      if (answer.sent) continue;
      answer.sent = true;
      frames.push({ vote: { room: this.room, poll, option: answer.option } });
    }
    return frames;
  }
}
