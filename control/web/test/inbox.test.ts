/** The client contract, event by event: what a device says and hands on, without a socket. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { AHEAD_MS, ANSWER_MS, BATCH_MAX, Inbox, InboxEvent, MARK_EVERY_MS } from "../sdk/inbox.js";
import { ofJson } from "../sdk/codec.js";

const GENERATION = "0123456789abcdef";
const OTHER = "fedcba9876543210";

/** A frame of the server, from what is not default. */
function give(inbox: Inbox, frame: object, now_ms: number): InboxEvent[] {
  const [[kind, body]] = Object.entries(ofJson("ServerFrame", frame));
  return inbox.received(kind, body, now_ms);
}

/** The kinds of what is due, and the bodies. */
const due = (inbox: Inbox, now_ms: number) => inbox.due(now_ms) as Record<string, any>[];

const welcome = (generation = GENERATION) => ({ welcome: { user: "ann", generation } });
const synced = (head_seq: number, more: object = {}, generation = GENERATION) => ({
  synced: {
    generation,
    cursor: `${head_seq}`,
    done: true,
    conversations: [{ conversation: "user:bob", head_seq, ...more }],
  },
});
const stored = (...seqs: number[]) => ({
  stored: { conversation: "user:bob", messages: seqs.map((seq) => ({ seq, user: "bob" })) },
});
const seqs = (events: InboxEvent[]) =>
  events.flatMap((event) => (event.is === "message" ? [event.message.seq] : []));

/** A device that has all there is, up to `head_seq`. */
function whole(head_seq: number): Inbox {
  const inbox = new Inbox();
  give(inbox, welcome(), 0);
  assert.deepEqual(due(inbox, 0), [{ sync: { cursor: "" } }]);
  give(inbox, synced(head_seq, { floor_seq: head_seq }), 0);
  due(inbox, 0);
  return inbox;
}

test("a backlog is pulled at once, without being asked for by id", () => {
  const inbox = new Inbox();
  assert.deepEqual(give(inbox, welcome(), 0), []);
  due(inbox, 0);
  const first = give(inbox, synced(3), 0);
  assert.deepEqual(
    first.map((event) => event.is),
    ["conversation"],
  );
  const [frame] = due(inbox, 0);
  assert.deepEqual(frame.pull.ranges, [{ conversation: "user:bob", from_seq: 1, to_seq: 3 }]);
  const part = { conversation: "user:bob", messages: [{ seq: 1 }, { seq: 2 }] };
  const rest = [{ conversation: "user:bob", from_seq: 3, to_seq: 3 }];
  assert.deepEqual(
    seqs(give(inbox, { pulled: { id: frame.pull.id, parts: [part], rest } }, 0)),
    [1, 2],
  );
  const [again] = due(inbox, 0);
  assert.equal(again.pull.ranges[0].from_seq, 3);
  // What was asked for and did not come is kept no longer: the device goes on behind it.
  const end = give(inbox, { pulled: { id: again.pull.id, parts: [], rest: [] } }, 0);
  assert.deepEqual(
    end.map((event) => event.is),
    ["caughtUp"],
  );
  assert.equal(inbox.place("user:bob").last_seq, 3);
});

test("what is ahead of its turn waits, and what is missing is pulled after a while", () => {
  const inbox = whole(1);
  assert.deepEqual(seqs(give(inbox, stored(2), 0)), [2]);
  assert.deepEqual(seqs(give(inbox, stored(4), 100)), []);
  assert.deepEqual(seqs(give(inbox, stored(2), 100)), [], "a second time is no time");
  const at = 100 + AHEAD_MS;
  assert.ok(!due(inbox, at - 1).some((frame) => frame.pull));
  assert.equal(inbox.nextDue_ms(), at);
  const frame = due(inbox, at).find((frame) => frame.pull)!;
  assert.deepEqual(frame.pull.ranges, [{ conversation: "user:bob", from_seq: 3, to_seq: 3 }]);
  assert.deepEqual(seqs(give(inbox, stored(3), at + 1)), [3, 4], "a late push serves as well");
});

test("sends go in batches, and a failed one holds up those behind it", () => {
  const inbox = whole(0);
  const id = (n: number) => Uint8Array.of(n, 1);
  for (let n = 0; n < 40; n += 1) {
    inbox.send({ conversation: "user:bob", client_msg_id: id(n), kind: "message", text: `${n}` });
  }
  const sent = due(inbox, 0).map((frame) => frame.send.text);
  assert.deepEqual(
    sent,
    Array.from({ length: BATCH_MAX }, (_, n) => `${n}`),
  );
  assert.deepEqual(due(inbox, 1), [], "the next batch waits for all answers");
  const answer = (n: number, more: object) => ({
    sent: {
      conversation: "user:bob",
      client_msg_id: Buffer.from(id(n)).toString("base64"),
      ...more,
    },
  });
  for (let n = 0; n < 10; n += 1) give(inbox, answer(n, { seq: n + 1, generation: GENERATION }), 2);
  for (let n = 10; n < 32; n += 1) {
    give(inbox, answer(n, { code: 1007, retry: true, retry_after_ms: 50 }), 2);
  }
  assert.deepEqual(due(inbox, 51), []);
  const again = due(inbox, 52).map((frame) => frame.send.text);
  assert.deepEqual([again[0], again.length, inbox.unanswered()], ["10", 30, 30]);
  // No answer at all: asked for again, under the same id.
  assert.equal(due(inbox, 52 + ANSWER_MS)[0].send.text, "10");
  const refused = give(inbox, answer(10, { code: 2018 }), 6_000);
  assert.deepEqual(
    refused.map((event) => event.is),
    ["refused"],
  );
});

test("marks are gathered, told again after a reconnect, and not when the server has them", () => {
  const inbox = whole(0);
  give(inbox, stored(1, 2, 3), 0);
  inbox.mark("user:bob", 9);
  const marks = (now_ms: number) => due(inbox, now_ms).find((frame) => frame.mark)?.mark.marks;
  assert.deepEqual(marks(0), [{ conversation: "user:bob", read_seq: 3, delivered_seq: 3 }]);
  give(inbox, stored(4), 1);
  assert.equal(marks(1), undefined);
  assert.equal(marks(MARK_EVERY_MS)[0].delivered_seq, 4);
  give(inbox, welcome(), 1_000);
  due(inbox, 1_000);
  give(inbox, synced(4), 1_000);
  assert.deepEqual(marks(1_000), [{ conversation: "user:bob", read_seq: 3, delivered_seq: 4 }]);
  const users = [{ user: "ann", read_seq: 3, delivered_seq: 4 }];
  give(inbox, { cursors: { conversation: "user:bob", users } }, 1_001);
  give(inbox, welcome(), 2_000);
  due(inbox, 2_000);
  give(inbox, synced(4, { read_seq: 3 }), 2_000);
  assert.equal(marks(2_000), undefined);
});

test("another generation begins anew, and answers of the one before are void", () => {
  const inbox = whole(5);
  inbox.send({ conversation: "user:bob", client_msg_id: Uint8Array.of(7), kind: "message" });
  due(inbox, 0);
  const sent = { conversation: "user:bob", client_msg_id: "Bw==", seq: 6, generation: OTHER };
  const events = give(inbox, { sent }, 1);
  assert.deepEqual(
    events.map((event) => event.is),
    ["anew"],
  );
  assert.equal(inbox.unanswered(), 1, "it is asked for again");
  const frames = due(inbox, 1);
  assert.deepEqual(frames.map((frame) => Object.keys(frame)[0]).sort(), ["send", "sync"]);
  assert.equal(frames.find((frame) => frame.sync)!.sync.cursor, "");
  assert.deepEqual(seqs(give(inbox, { pulled: { id: 1, parts: [stored(6).stored] } }, 2)), []);
});

test("whom a sync that names all does not name is over", () => {
  const inbox = whole(0);
  const related = (user: string, changed_ms: number) => ({ user, friend: true, changed_ms });
  give(inbox, { relations: { users: [related("bob", 10), related("eve", 10)] } }, 0);
  assert.deepEqual(give(inbox, { relations: { users: [related("bob", 9)] } }, 0), []);
  give(inbox, welcome(), 1);
  due(inbox, 1);
  const events = give(
    inbox,
    {
      synced: {
        generation: GENERATION,
        cursor: "2",
        done: true,
        relations: [related("bob", 10)],
        relations_anew_ms: 20,
      },
    },
    1,
  );
  const states = events.flatMap((event) => (event.is === "related" ? [event.state] : []));
  assert.deepEqual(
    states.map((state) => [state.user, state.friend]),
    [
      ["bob", true],
      ["eve", false],
    ],
  );
});

test("a resync is spread, and presence of requests does not stop it", () => {
  const inbox = whole(1);
  give(inbox, { resync: { spread_ms: 1_000, generation: GENERATION } }, 10);
  const at = inbox.nextDue_ms()!;
  assert.ok(at >= 10 && at < 1_010, `${at}`);
  assert.equal(due(inbox, at).filter((frame) => frame.sync).length, 1);
});

test("a device may begin with the newest, and asks for older ones once more after a break", () => {
  const inbox = new Inbox(2);
  give(inbox, welcome(), 0);
  due(inbox, 0);
  give(inbox, synced(9, { floor_seq: 3 }), 0);
  const [{ pull }] = due(inbox, 0);
  assert.deepEqual(pull.ranges, [{ conversation: "user:bob", from_seq: 8, to_seq: 9 }]);
  const part = (...of: number[]) => [
    { conversation: "user:bob", messages: of.map((seq) => ({ seq })) },
  ];
  give(inbox, { pulled: { id: pull.id, parts: part(8, 9), rest: [] } }, 0);
  const asked = inbox.older("user:bob", 8, 50, 0)!;
  const range = { conversation: "user:bob", from_seq: 4, to_seq: 7 };
  assert.deepEqual(due(inbox, 0).find((frame) => frame.pull)?.pull.ranges, [range]);
  // The connection breaks: the same is asked for, after the sync.
  give(inbox, welcome(), 1);
  due(inbox, 1);
  give(inbox, synced(9, { floor_seq: 3 }), 1);
  const again = due(inbox, 1).find((frame) => frame.pull)!.pull;
  assert.deepEqual(again.ranges, [range]);
  const rest = [{ ...range, from_seq: 6 }];
  const first = give(inbox, { pulled: { id: again.id, parts: part(4, 5), rest } }, 1);
  assert.deepEqual(first, []);
  const last = due(inbox, 1).find((frame) => frame.pull)!.pull;
  assert.deepEqual(last.ranges, rest);
  const [end] = give(inbox, { pulled: { id: last.id, parts: part(6, 7), rest: [] } }, 1);
  assert.ok(end.is === "older" && end.asked === asked);
  assert.deepEqual(
    end.messages.map(({ seq }) => seq),
    [4, 5, 6, 7],
  );
  assert.equal(inbox.older("user:bob", 4, 50, 1), undefined, "there is nothing before");
  assert.deepEqual(inbox.place("user:bob"), { last_seq: 9, read_seq: 0 });
});
