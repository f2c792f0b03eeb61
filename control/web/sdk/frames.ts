/**
 * What the server tells, as types: the fields of uproar.proto that a user of the SDK meets.
 *
 * Owns no code. Times are milliseconds since 1970, an epoch or id is 16 hexadecimal digits.
 */

/** What is shed first when a room is busy: `like`, then `chat`, then `gift`; `system` never is. */
export type Class = "chat" | "system" | "gift" | "like";

/** A place in a room's stream. An epoch is one life of the room: compare it, do not order it. */
export interface Cursor {
  epoch: string;
  seq: number;
}

/** One message of a room. */
export interface RoomMessage {
  /** Rises by one with each message that the room admits. */
  seq: number;
  class: Class | "unknown";
  user: string;
  time_ms: number;
  /** One of the two is there, unless it is `gone` or has a `combo`. */
  text?: string;
  data?: Uint8Array;
  client_msg_id: Uint8Array;
  /** It was recalled: its place is left, its content is not. */
  gone: boolean;
  /** Of a gift with a name; such a one may have neither `text` nor `data`. */
  combo?: Combo;
}

/** A user's gifts of one name, one soon after the other: show them as one line that counts up. */
export interface Combo {
  gift: string;
  /** How many this message brings. */
  count: number;
  /** How many there are of the combo with it. */
  total: number;
  /** The same in all messages of a combo, and in no others of this life of the room. */
  combo: number;
}

export interface Welcome {
  /** Names the connection in the server's logs: show it where somebody reports a fault. */
  session: string;
  user: string;
  guest: boolean;
  ping_every_s: number;
  server_time_ms: number;
  payload_bytes_max: number;
  rooms_max: number;
  generation: string;
}

export interface Joined extends Cursor {
  room: string;
  messages: RoomMessage[];
  attributes: Record<string, string>;
  viewers: number;
  likes: number;
  resumed: boolean;
  slow_mode_s: number;
  /** Chat is for who follows the room for so many seconds; absent: for everybody. */
  followers_only_s?: number;
  attributes_version: number;
  /** Messages before the cursor that were recalled. */
  recalled: number[];
  pinned?: RoomMessage;
  polls: Poll[];
}

/** Messages that were recalled: take them off the screen. */
export interface Recalled {
  room: string;
  epoch: string;
  seqs: number[];
  /** Not empty: besides `seqs` all that this user has said up to `up_to_seq`. */
  user: string;
  up_to_seq: number;
}

/** A change of a room's attributes. */
export interface Attributes {
  room: string;
  epoch: string;
  version: number;
  from_version: number;
  set: Record<string, string>;
  removed: string[];
  /** `set` is all there is. */
  whole: boolean;
}

/** Who has come into a room; `more`: others, without a name. */
export interface Entered {
  room: string;
  epoch: string;
  users: string[];
  more: number;
}

/** Messages that viewers will see after the room's delay. */
export interface Held {
  room: string;
  epoch: string;
  messages: RoomMessage[];
}

export interface Pinned {
  room: string;
  epoch: string;
  message?: RoomMessage;
}

/** A poll of a room as it stands. */
export interface Poll {
  room: string;
  poll: number;
  question: string;
  options: string[];
  ends_ms: number;
  /** Answers, by option. */
  votes: number[];
  /** No more are counted: `votes` is exact and the last word. */
  over: boolean;
}

/** What became of an answer to a poll; `code` 0: it is counted. */
export interface Voted {
  room: string;
  poll: number;
  option: number;
  code: number;
  retry_after_ms: number;
}

export type Outcome = "accepted" | "merged" | "shed" | "refused" | "expired" | "unknown";

export interface Verdict {
  client_msg_id: Uint8Array;
  outcome: Outcome;
  seq: number;
  /** A number of PROTOCOL.md's table of codes; 0: none. */
  code: number;
  retry_after_ms: number;
  /** What the platform says of its refusal, for people; else empty. */
  text: string;
}

export interface Gap {
  room: string;
  epoch: string;
  /** First and last missing; 0 and 0: unknown. */
  from_seq: number;
  to_seq: number;
  reason: "slow" | "history" | "epoch" | "lost" | "unknown";
}

/** What became of reports of the quality of a stream. */
export interface Reported {
  id: number;
  /** Counted; and counted before. */
  taken: number;
  repeated: number;
  /** When the next one is due. */
  next_ms: number;
  /** Not taken: why; 0: they are. */
  code: number;
  text: string;
}

export interface ServerError {
  code: number;
  name: string;
  text: string;
  retry: boolean;
  retry_after_ms: number;
  /** Empty where it is about no room. */
  room: string;
  client_msg_id: Uint8Array;
}

export type MessageKind =
  "message" | "recall" | "edit" | "pin" | "unpin" | "notice" | "reactions" | "unknown";

/** A reference to a file that is kept elsewhere. */
export interface FileReference {
  url: string;
  bytes: number;
  sha256: Uint8Array;
  media_type: string;
  name: string;
  thumbnail_url: string;
}

/** Something about a group, written by the server into its log. */
export interface Notice {
  what: string;
  users: string[];
  more: number;
  text: string;
  until_ms: number;
}

/** One message of a conversation. */
export interface StoredMessage {
  /** Counted from 1, without holes. */
  seq: number;
  user: string;
  time_ms: number;
  client_msg_id: Uint8Array;
  kind: MessageKind;
  text: string;
  data: Uint8Array;
  file?: FileReference;
  target_seq: number;
  gone: boolean;
  edited_seq: number;
  notice?: Notice;
  msg_id: string;
  reactions: { reaction: string; count: number }[];
  own_reactions: string[];
  pinned_seq: number;
}

export interface Send {
  conversation: string;
  client_msg_id: Uint8Array;
  kind: MessageKind;
  text?: string;
  data?: Uint8Array;
  file?: Partial<FileReference>;
  target_seq?: number;
}

export interface Sent {
  conversation: string;
  client_msg_id: Uint8Array;
  seq: number;
  time_ms: number;
  generation: string;
  code: number;
  retry: boolean;
  retry_after_ms: number;
  msg_id: string;
  text: string;
}

export interface ConversationState {
  conversation: string;
  head_seq: number;
  floor_seq: number;
  read_seq: number;
  unread: number;
  peer_read_seq: number;
  peer_delivered_seq: number;
  left: boolean;
  changed_ms: number;
  group?: {
    name: string;
    members: number;
    role: string;
    muted_all: boolean;
    muted_until_ms: number;
  };
  pinned: number[];
  silent: boolean;
}

export interface RelationState {
  user: string;
  friend: boolean;
  asked: boolean;
  asking: boolean;
  blocks: boolean;
  follows: boolean;
  changed_ms: number;
}

export interface Settings {
  private_read: boolean;
  hide_last_seen: boolean;
  changed_ms: number;
}

export interface Synced {
  generation: string;
  cursor: string;
  done: boolean;
  conversations: ConversationState[];
  relations: RelationState[];
  settings?: Settings;
  relations_anew_ms: number;
}

export interface Range {
  conversation: string;
  from_seq: number;
  to_seq: number;
}

export interface Pulled {
  id: number;
  parts: { conversation: string; messages: StoredMessage[] }[];
  rest: Range[];
}

export interface UserCursor {
  user: string;
  read_seq: number;
  delivered_seq: number;
}

export interface Reacted {
  conversation: string;
  seq: number;
  reaction: string;
  remove: boolean;
  code: number;
  retry: boolean;
  retry_after_ms: number;
}

export interface UserPresence {
  user: string;
  online: boolean;
  last_seen_ms: number;
}
