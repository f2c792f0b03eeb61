/**
 * The messages of uproar.proto, danmaku.proto and quality.proto as tables: what fields there are,
 * under which number, of which kind.
 *
 * Owns names and numbers, nothing else; the codecs walk them. A test holds every line against
 * proto/uproar/v1.
 */

/**
 * Each message: `number name type`, where `*` is a list and `?` a field that may be absent and is
 * then not there, rather than its default. A type in capitals is another message; `id` is a
 * fixed64, written as 16 hexadecimal digits; `map` is one of strings.
 */
const MESSAGES = {
  ClientFrame:
    "1 connect Connect, 2 join Join, 3 leave Leave, 4 publish Publish, 5 ping Ping, 6 send Send, " +
    "7 sync Sync, 8 pull Pull, 9 mark Mark, 10 signal Signal, 11 renew Renew, 12 watch Watch, " +
    "13 react React, 14 vote Vote, 15 report Report",
  Connect: "1 token string, 2 device string, 3 join Join*, 4 agent string, 5 inbox bool",
  Join: "1 room string, 2 resume Cursor",
  Cursor: "1 epoch id, 2 seq uint",
  Leave: "1 room string",
  Publish:
    "1 room string, 2 class Class, 3 client_msg_id bytes, 4 text string?, 5 data bytes?, " +
    "6 count uint, 7 gift string",
  Ping: "",
  Send:
    "1 conversation string, 2 client_msg_id bytes, 3 kind Kind, 4 text string, 5 data bytes, " +
    "6 file File, 7 target_seq uint",
  File:
    "1 url string, 2 bytes uint, 3 sha256 bytes, 4 media_type string, 5 name string, " +
    "6 thumbnail_url string",
  Sync: "1 cursor string, 2 limit uint",
  Pull: "1 id uint, 2 ranges Range*",
  Range: "1 conversation string, 2 from_seq uint, 3 to_seq uint",
  Mark: "1 marks Marked*",
  Marked: "1 conversation string, 2 read_seq uint, 3 delivered_seq uint",
  React: "1 conversation string, 2 seq uint, 3 reaction string, 4 remove bool",
  Signal: "1 conversation string, 2 name string, 3 data bytes, 4 user string",
  Renew: "1 token string",
  Watch: "1 users string*",
  Vote: "1 room string, 2 poll uint, 3 option uint",
  Report: "1 id uint, 2 reports bytes",

  ServerFrame:
    "1 welcome Welcome, 2 joined Joined, 3 batch Batch, 4 verdicts Verdicts, 5 gap Gap, " +
    "6 count Count, 7 error Error, 8 reconnect Reconnect, 9 pong Pong, 10 left Left, " +
    "11 sent Sent, 12 stored Stored, 13 synced Synced, 14 pulled Pulled, 15 resync Resync, " +
    "16 cursors Cursors, " +
    "17 signal Signal, 18 renewed Renewed, 19 expiring Expiring, 20 receipts Receipts, " +
    "21 presence Presence, 22 reacted Reacted, 23 relations Relations, 24 settings Settings, " +
    "25 recalled Recalled, 26 attributes Attributes, 27 pinned Pinned, 28 poll Poll, " +
    "29 voted Voted, 30 held Held, 31 entered Entered, 32 announced Announced, " +
    "33 reported Reported",
  Welcome:
    "1 session string, 2 user string, 3 guest bool, 4 ping_every_s uint, 5 server_time_ms uint, " +
    "6 payload_bytes_max uint, 7 rooms_max uint, 8 generation id",
  Joined:
    "1 room string, 2 epoch id, 3 seq uint, 4 messages Message*, 5 attributes map, " +
    "6 viewers uint, 7 likes uint, 8 resumed bool, 9 slow_mode_s uint, " +
    "10 attributes_version uint, 11 recalled uint*, 12 pinned Message, 13 polls Poll*, " +
    "14 followers_only_s uint?",
  Batch: "1 room string, 2 epoch id, 3 messages Message*",
  Message:
    "1 seq uint, 2 class Class, 3 user string, 4 time_ms uint, 5 text string?, 6 data bytes?, " +
    "7 client_msg_id bytes, 8 gone bool, 9 combo Combo",
  Combo: "1 gift string, 2 count uint, 3 total uint, 4 combo uint",
  Verdicts: "1 room string, 2 verdicts Verdict*",
  Verdict:
    "1 client_msg_id bytes, 2 outcome Outcome, 3 seq uint, 4 code uint, 5 retry_after_ms uint, " +
    "6 text string",
  Gap: "1 room string, 2 epoch id, 3 from_seq uint, 4 to_seq uint, 5 reason GapReason",
  Count: "1 room string, 2 viewers uint?, 3 likes uint?",
  Error:
    "1 code uint, 2 name string, 3 text string, 4 retry bool, 5 retry_after_ms uint, " +
    "6 room string, 7 client_msg_id bytes",
  Reconnect: "1 spread_ms uint, 2 to string",
  Pong: "",
  Left: "1 room string, 2 code uint",
  Sent:
    "1 conversation string, 2 client_msg_id bytes, 3 seq uint, 4 time_ms uint, 5 generation id, " +
    "6 code uint, 7 retry bool, 8 retry_after_ms uint, 9 msg_id id, 10 text string",
  Stored: "1 conversation string, 2 messages StoredMessage*",
  StoredMessage:
    "1 seq uint, 2 user string, 3 time_ms uint, 4 client_msg_id bytes, 5 kind Kind, " +
    "6 text string, 7 data bytes, 8 file File, 9 target_seq uint, 10 gone bool, " +
    "11 edited_seq uint, " +
    "12 notice Notice, 13 msg_id id, 14 reactions ReactionCount*, 15 own_reactions string*, " +
    "16 pinned_seq uint",
  ReactionCount: "1 reaction string, 2 count uint",
  Notice: "1 what string, 2 users string*, 3 more uint, 4 text string, 5 until_ms uint",
  Synced:
    "1 generation id, 2 cursor string, 3 done bool, 4 conversations ConversationState*, " +
    "5 relations RelationState*, 6 settings Settings, 7 relations_anew_ms uint",
  ConversationState:
    "1 conversation string, 2 head_seq uint, 3 floor_seq uint, 4 read_seq uint, 5 unread uint, " +
    "6 peer_read_seq uint, 7 peer_delivered_seq uint, 8 left bool, 9 changed_ms uint, " +
    "10 group GroupState, 11 pinned uint*, 12 silent bool",
  GroupState:
    "1 name string, 2 members uint, 3 role string, 4 muted_all bool, 5 muted_until_ms uint",
  Pulled: "1 id uint, 2 parts Stored*, 3 rest Range*",
  Resync: "1 spread_ms uint, 2 generation id",
  Cursors: "1 conversation string, 2 users UserCursor*",
  UserCursor: "1 user string, 2 read_seq uint, 3 delivered_seq uint",
  Receipts: "1 conversation string, 2 counts ReadCount*",
  ReadCount: "1 seq uint, 2 readers uint",
  Reacted:
    "1 conversation string, 2 seq uint, 3 reaction string, 4 remove bool, 5 code uint, " +
    "6 retry bool, 7 retry_after_ms uint",
  Relations: "1 users RelationState*",
  RelationState:
    "1 user string, 2 friend bool, 3 asked bool, 4 asking bool, 5 blocks bool, 6 follows bool, " +
    "7 changed_ms uint",
  Settings: "1 private_read bool, 2 hide_last_seen bool, 3 changed_ms uint",
  Presence: "1 users UserPresence*",
  UserPresence: "1 user string, 2 online bool, 3 last_seen_ms uint",
  Renewed: "1 expires_ms uint",
  Expiring: "1 in_ms uint",
  Recalled: "1 room string, 2 epoch id, 3 seqs uint*, 4 user string, 5 up_to_seq uint",
  Attributes:
    "1 room string, 2 epoch id, 3 version uint, 4 from_version uint, 5 set map, " +
    "6 removed string*, 7 whole bool",
  Pinned: "1 room string, 2 epoch id, 3 message Message",
  Poll:
    "1 room string, 2 poll uint, 3 question string, 4 options string*, 5 ends_ms uint, " +
    "6 votes uint*, 7 over bool",
  Entered: "1 room string, 2 epoch id, 3 users string*, 4 more uint",
  Announced: "1 message Message",
  Held: "1 room string, 2 epoch id, 3 messages Message*",
  Reported: "1 id uint, 2 taken uint, 3 repeated uint, 4 next_ms uint, 5 code uint, 6 text string",
  Voted: "1 room string, 2 poll uint, 3 option uint, 4 code uint, 5 retry_after_ms uint",

  DanmakuSegment:
    "1 version uint, 2 number uint, 3 length_ms uint, 4 start_ms uint, 5 lines DanmakuLine*, " +
    "6 left_out uint",
  DanmakuLine:
    "1 offset_ms uint, 2 class Class, 3 user string, 4 text string?, 5 data bytes?, " +
    "6 weight uint, 7 seq uint, 8 combo Combo",

  QualityReports: "1 reports QualityReport*",
  QualityReport:
    "1 sid string, 2 batch uint, 3 age_ms uint, 4 side QualitySide, 5 room string, " +
    "6 cdn string, 7 region string, 8 isp string, 9 platform string, 10 totals QualityTotals, " +
    "11 samples QualitySamples, 12 starts QualityStart*",
  QualityTotals:
    "1 stalls uint, 2 stall_ms uint, 3 played_ms uint, 4 frames uint, 5 frames_dropped uint, " +
    "6 attempts uint, 7 exits_before_start uint, 8 start_failures uint, " +
    "9 playback_failures uint, 10 bytes uint, 11 reconnects uint, 12 limited_ms uint",
  QualitySamples:
    "1 ltc uint*, 2 bl uint*, 3 br uint*, 4 mtp uint*, 5 target_br uint*, 6 rtt uint*, " +
    "7 fps uint*, 8 capture_fps uint*, 9 height uint*, 10 stall uint*, 11 cpu uint*, " +
    "12 mem uint*, 13 qp uint*",
  QualityStart: "1 dns uint?, 2 connect uint?, 3 ttfb uint?, 4 decode uint?, 5 msd uint?",
};

/** Each enum: its words, from 0. */
const ENUMS = {
  Class: "chat system gift like",
  Kind: "message recall edit pin unpin notice reactions",
  Outcome: "accepted merged shed refused expired",
  GapReason: "slow history epoch lost",
  QualitySide: "unspecified play push",
};

/** What a value of an enum reads as that this version does not know. */
export const UNKNOWN = "unknown";

export type MessageName = keyof typeof MESSAGES;

export interface Field {
  no: number;
  name: string;
  type: string;
  list: boolean;
  /** Absent is not the same as its default. */
  optional: boolean;
  /** Of an enum. */
  words?: string[];
  /** Of a message. */
  message?: MessageName;
}

const read = (line: string): Field[] =>
  line === ""
    ? []
    : line.split(", ").map((part) => {
        const [no, name, written] = part.split(" ");
        const type = written.replace(/[*?]/, "");
        const list = written.endsWith("*");
        const words = (ENUMS as Record<string, string>)[type]?.split(" ");
        const message = type in MESSAGES ? (type as MessageName) : undefined;
        const optional = written.endsWith("?") || (message !== undefined && !list);
        return { no: Number(no), name, type, list, optional, words, message };
      });

/** Fields of each message, by its name. */
export const SCHEMA = Object.fromEntries(
  Object.entries(MESSAGES).map(([name, line]) => [name, read(line)]),
) as Record<MessageName, Field[]>;
