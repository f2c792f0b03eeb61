/** The SDK against a real server, over both WebSocket variants. */

import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";
import { Fate, Heard, Quality, State, Uproar } from "../sdk/index.js";
import { client } from "./client.js";
import { check, mint, Server, sleep, until, Wire, WITH_USERS } from "./server.js";

/** What a client hears in a room, from now on. */
function hearing(live: Uproar, name = "stage"): Heard[] {
  const all: Heard[] = [];
  live.room(name).on("message", (message) => all.push(message));
  return all;
}

const texts = (heard: Heard[]) => heard.map((one) => one.text);
const online = (live: Uproar) => until("it is online", () => live.state.is === "online");

for (const variant of ["proto", "json"] as const) {
  check(`${variant}: what one says all hear, and it learns what became of it`, async () => {
    const server = await Server.start();
    const [ann, bob] = [client({ url: server.url, variant }), client({ url: server.url, variant })];
    const [byAnn, byBob] = [hearing(ann), hearing(bob)];
    const counts: number[] = [];
    ann.room("stage").on("count", ({ viewers }) => counts.push(viewers));
    await until("both are in", () => ann.room("stage").joined && bob.room("stage").joined);
    const fate = await ann.room("stage").publish("grüße 😀");
    assert.equal(fate.outcome, "accepted");
    await until("both heard it", () => byAnn.length === 1 && byBob.length === 1);
    assert.deepEqual([byAnn[0].own, byBob[0].own], [true, false]);
    assert.deepEqual(
      [byBob[0].text, byBob[0].seq, byBob[0].history],
      ["grüße 😀", fate.seq, false],
    );
    const bytes = Uint8Array.from([0, 255, 7]);
    await bob.room("stage").publish(bytes);
    await until("bytes come too", () => byAnn.length === 2);
    assert.deepEqual(new Uint8Array(byAnn[1].data!), bytes);
    await until("the viewers are counted", () => counts.at(-1) === 2);

    // Who comes later sees what was said, as history.
    const late = hearing(client({ url: server.url, variant }));
    await until("the history is there", () => late.length === 2);
    assert.ok(late.every((one) => one.history && !one.own));
  });

  check(`${variant}: gifts of a name are a combo that counts up, exactly`, async () => {
    const server = await Server.start(WITH_USERS);
    const token = await mint(server, "ann", 600, { publish: ["chat", "gift"] });
    const url = server.url;
    const [ann, fan] = [client({ url, variant, token }), client({ url, variant, token })];
    const heard = hearing(fan);
    const room = ann.room("stage");
    await until("both are in", () => room.joined && fan.room("stage").joined);
    const fates = await Promise.all(
      Array.from({ length: 50 }, (_, n) => room.sendGift("🌹", n + 1)),
    );
    const counted = fates.filter(({ outcome }) => outcome === "accepted" || outcome === "merged");
    assert.equal(counted.length, 50);
    const combos = () => heard.map(({ combo }) => combo!);
    await until("all were seen", () => combos().at(-1)?.total === 1_275);
    assert.ok(heard.length < 20, `${heard.length} messages`);
    assert.equal(new Set(combos().map(({ combo }) => combo)).size, 1);
    assert.equal(
      combos().reduce((sum, { count }) => sum + count, 0),
      1_275,
    );
    assert.ok(heard.every(({ text, data }) => text === undefined && data === undefined));
    await room.sendGift("🚀");
    await until("another gift is another combo", () => combos().at(-1)?.gift === "🚀");
    assert.equal(combos().at(-1)!.total, 1);
    const bad = await room.sendGift("x".repeat(33));
    assert.deepEqual([bad.outcome, bad.code], ["refused", 2015]);
    const many = await room.sendGift("x", 1_001);
    assert.deepEqual([many.outcome, many.code], ["refused", 2023]);
  });

  check(
    `${variant}: how a stream plays is told over the connection, and over HTTP else`,
    async () => {
      const server = await Server.start();
      const live = client({ url: server.url, variant });
      const quality = new Quality({ room: "stage", live: () => live, base: server.http });
      const told = async () => {
        const { groups } = await server.ask("GET", "/v1/quality?step=10s&by=room");
        const frames = await server.metric("uproar_report_frames_total");
        return [groups.map(({ totals }: any) => [totals.attempts, totals.stalls]), frames];
      };
      const tells = (stalls: number, frames: number) =>
        until(`${stalls} stalls are told in ${frames} frames`, async () =>
          isDeepStrictEqual(await told(), [[[1, stalls]], frames]),
        );
      await online(live);
      quality.add("attempts");
      quality.sample("ltc", 1_500);
      quality.started({ msd: 700 });
      await quality.report();
      await tells(0, 1);
      quality.add("stalls", 2);
      await quality.report();
      await tells(2, 2);
      const bad = await live.report([{ sid: "short", batch: 1, side: "play" }]);
      assert.equal(bad!.code, 2015);
      assert.match(bad!.text, /^reports\[0\]: sid/);
      live.close();
      quality.add("stalls");
      await quality.report();
      await tells(3, 3);
      quality.close();
    },
  );

  check(`${variant}: likes are added up`, async () => {
    const server = await Server.start();
    const [ann, bob] = [client({ url: server.url, variant }), client({ url: server.url, variant })];
    const room = bob.room("stage");
    let frames = 0;
    room.on("count", () => (frames += 1));
    await until("both are in", () => ann.room("stage").joined && room.joined);
    for (let tap = 0; tap < 350; tap += 1) ann.room("stage").like();
    await until("all of them are told", () => room.likes === 350);
    assert.ok(frames < 35, `${frames} frames told of 350 taps`);
  });

  check(`${variant}: after a cut it goes on where it was, without a duplicate`, async () => {
    const server = await Server.start();
    const line = await Wire.to(server);
    const [ann, bob] = [client({ url: line.url, variant }), client({ url: server.url, variant })];
    const heard = hearing(ann);
    const gaps: unknown[] = [];
    const states: State["is"][] = [];
    ann.on("state", (state) => states.push(state.is));
    ann.room("stage").on("gap", (gap) => gaps.push(gap));
    await until("both are in", () => ann.room("stage").joined && bob.room("stage").joined);
    const say = async (from: number, to: number) => {
      for (let n = from; n < to; n += 1) await bob.room("stage").publish(`${n}`);
    };
    await say(0, 3);
    await until("it heard three", () => heard.length === 3);
    line.cut();
    await until("it noticed", () => ann.state.is === "waiting");
    await say(3, 8);
    line.mend();
    await until("it heard all", () => heard.length === 8);
    assert.deepEqual(texts(heard), ["0", "1", "2", "3", "4", "5", "6", "7"]);
    assert.deepEqual(gaps, []);
    assert.deepEqual(states.slice(0, 3), ["connecting", "online", "waiting"]);
    assert.equal(states.at(-1), "online");
    assert.ok(
      heard.slice(3).every((one) => !one.history),
      "what was missed is no history",
    );
  });
}

for (const variant of ["proto", "json"] as const) {
  check(`${variant}: all that a user has said is recalled, forgotten lines too`, async () => {
    const server = await Server.start(
      "[engine.rooms]\nhistory_messages_max = 2\nsnapshot_messages_max = 2\n",
    );
    const [ann, bob, cleo] = [1, 2, 3].map(() => client({ url: server.url, variant }));
    const [room, bobs, cleos] = [ann, bob, cleo].map((live) => live.room("stage"));
    const heard = hearing(ann);
    const recalled: number[] = [];
    room.on("recalled", ({ seqs }) => recalled.push(...seqs));
    await until("all are in", () => room.joined && bobs.joined && cleos.joined);
    for (let n = 0; n < 5; n += 1) {
      await bobs.publish(`bob ${n}`);
      await cleos.publish(`cleo ${n}`);
    }
    await until("all is heard", () => heard.length === 10);
    const [of] = heard.filter(({ text }) => text === "bob 0");
    const told = await server.ask("POST", "/v1/rooms/stage/recall", { user: of.user });
    assert.deepEqual(told.seqs, [9], "those that the room still has");
    await until("they are off the screen", () => recalled.length === 5);
    assert.deepEqual(recalled.sort(), [1, 3, 5, 7, 9]);
    await bobs.publish("from now on again");
    await until("it is heard", () => heard.length === 11);
    assert.equal(recalled.length, 5);
  });

  check(`${variant}: what a room is beside its messages is told as it changes`, async () => {
    const server = await Server.start();
    const line = await Wire.to(server);
    const [ann, bob] = [client({ url: line.url, variant }), client({ url: server.url, variant })];
    const [room, other] = [ann.room("stage"), bob.room("stage")];
    const heard = hearing(ann);
    const [recalled, codes]: number[][] = [[], []];
    room.on("recalled", ({ seqs }) => recalled.push(...seqs));
    room.on("voted", ({ code }) => codes.push(code));
    await until("both are in", () => room.joined && other.joined);
    const first = await other.publish("taken back");
    const second = await other.publish("stays");
    await until("both are heard", () => heard.length === 2);
    const at = "/v1/rooms/stage";
    await server.ask("POST", `${at}/recall`, { seqs: [first.seq] });
    await server.ask("PUT", `${at}/pin`, { seq: second.seq });
    await server.ask("PATCH", `${at}/attributes`, { set: { title: "live", brief: "x" } });
    await until("it is told", () => room.attributes.title === "live");
    assert.deepEqual([recalled, room.pinned?.text], [[first.seq], "stays"]);
    await server.ask("PATCH", `${at}/attributes`, { set: { n: "1" }, remove: ["brief"] });
    await until("the change is told", () => room.attributes.n === "1");
    assert.deepEqual(room.attributes, { title: "live", n: "1" });

    const asked = { question: "who?", options: ["red", "blue"], duration_s: 60 };
    const { poll } = await server.ask("POST", `${at}/polls`, asked);
    await until("the question is there", () => room.polls.length === 1);
    assert.ok(room.vote(poll, 1) && other.vote(poll, 0));
    await until("both are counted", () => room.polls[0].votes.join() === "1,1");
    await until("it is answered", () => codes.length === 1);
    assert.deepEqual([codes, room.polls[0].options], [[0], ["red", "blue"]]);

    // Who was away learns all of it by its next join.
    line.cut();
    await until("it noticed", () => ann.state.is === "waiting");
    await server.ask("POST", `${at}/recall`, { seqs: [second.seq] });
    await server.ask("DELETE", `${at}/polls/${poll}`);
    line.mend();
    await until("it is back", () => room.joined);
    assert.deepEqual([recalled.includes(second.seq), room.pinned], [true, undefined]);
    assert.deepEqual([room.polls[0].over, room.polls[0].votes], [true, [1, 1]]);
    const late = hearing(client({ url: server.url, variant }));
    await other.publish("the end");
    await until("the rest is heard", () => late.length === 1);
  });
}

check("what the history no longer holds is told as a gap", async () => {
  const server = await Server.start(
    "[engine.rooms]\nhistory_messages_max = 4\nsnapshot_messages_max = 4\n",
  );
  const line = await Wire.to(server);
  const [ann, bob] = [client({ url: line.url }), client({ url: server.url })];
  const heard = hearing(ann);
  const gaps: { from_seq: number; to_seq: number; reason: string }[] = [];
  ann.room("stage").on("gap", (gap) => gaps.push(gap));
  await until("both are in", () => ann.room("stage").joined && bob.room("stage").joined);
  await bob.room("stage").publish("first");
  await until("it heard one", () => heard.length === 1);
  line.cut();
  for (let n = 0; n < 9; n += 1) await bob.room("stage").publish(`${n}`);
  line.mend();
  await until("it heard the rest", () => texts(heard).at(-1) === "8");
  assert.equal(gaps.length, 1);
  const [{ from_seq, to_seq, reason }] = gaps;
  assert.deepEqual([from_seq, reason], [heard[0].seq + 1, "history"]);
  assert.equal(heard[1].seq, to_seq + 1, "what comes is what was not told to be missing");
});

check("a connection that hangs is found out when the network is said to be back", async () => {
  const server = await Server.start();
  const line = await Wire.to(server);
  const ann = client({ url: line.url });
  await until("it is in", () => ann.room("stage").joined);
  line.freeze();
  ann.reconnect();
  // Its next heartbeat would find it out as well, minutes later.
  await until("it noticed", () => ann.state.is === "waiting");
  line.mend();
  await until("it is back", () => ann.room("stage").joined);
});

check("what was said over a broken connection is lost, or found again", async () => {
  const server = await Server.start();
  const line = await Wire.to(server);
  const ann = client({ url: line.url });
  const heard = hearing(ann);
  await until("it is in", () => ann.room("stage").joined);
  line.freeze();
  const lost = ann.room("stage").publish("into the void");
  line.cut();
  await until("it noticed", () => ann.state.is === "waiting");
  // Said while there is no connection, it waits for one.
  const late = ann.room("stage").publish("as soon as I am back");
  line.mend();
  assert.equal((await lost).outcome, "lost");
  assert.equal((await late).outcome, "accepted");
  await until("it is heard", () => heard.length === 1);
  assert.equal(heard[0].own, true);
});

check("what a room refuses comes back with the reason and the time to wait", async () => {
  const server = await Server.start(
    "[engine.rooms.defaults]\nslow_mode_s = 30\npayload_bytes_max = 64\n",
  );
  const room = client({ url: server.url }).room("stage");
  await until("it is in", () => room.joined);
  assert.equal(room.slowMode_s, 30);
  assert.equal((await room.publish("x".repeat(65))).code, 2007);
  assert.equal((await room.publish("one")).outcome, "accepted");
  const fate: Fate = await room.publish("two");
  assert.deepEqual([fate.outcome, fate.code], ["refused", 1002]);
  assert.ok(fate.retry_after_ms > 20_000 && fate.retry_after_ms <= 30_000);
});

check("a room for followers says so, and who may not speak learns when it may", async () => {
  const server = await Server.start(
    `${WITH_USERS}\n[engine.rooms.defaults]\nfollowers_only_s = 60\n`,
  );
  const follows = { stage: Math.floor(Date.now() / 1_000) - 20 };
  const token = await mint(server, "ann", 600, { follows });
  const room = client({ url: server.url, token }).room("stage");
  await until("it is in", () => room.joined);
  assert.equal(room.followersOnly_s, 60);
  const fate: Fate = await room.publish("hello");
  assert.deepEqual([fate.outcome, fate.code], ["refused", 2035]);
  assert.ok(fate.retry_after_ms > 30_000 && fate.retry_after_ms <= 40_000);
});

check("more than a room admits is shed, and its sender is told", async () => {
  const server = await Server.start(
    "[engine.rooms.defaults]\nrate_per_s = 2\nuser_rate_per_s = 100\n",
  );
  const room = client({ url: server.url }).room("stage");
  await until("it is in", () => room.joined);
  const said = Array.from({ length: 30 }, (_, n) => room.publish(`${n}`));
  const fates = await Promise.all(said);
  const shed = fates.filter((fate) => fate.outcome === "shed");
  assert.ok(shed.length >= 15, `${shed.length} of 30 were shed`);
  assert.ok(fates.some((fate) => fate.outcome === "accepted"));
});

check("too much that waits is refused at once, and what waits too long is not sent", async () => {
  const ann = client({ url: "ws://127.0.0.1:1" });
  const said = Array.from({ length: 101 }, () => ann.room("stage").publish("hello?"));
  assert.equal((await said[100]).outcome, "offline");
  assert.equal((await said[0]).outcome, "offline");
});

check(
  "a token that is refused ends it, and a fresh one is asked for where there is a way",
  async () => {
    const server = await Server.start(WITH_USERS);
    const fixed = client({ url: server.url, token: "nonsense" });
    await until("it is closed", () => fixed.state.is === "closed");
    assert.equal(fixed.state.is === "closed" && fixed.state.why?.name, "TOKEN_INVALID");
    const guest = client({ url: server.url });
    await until("it is closed", () => guest.state.is === "closed");
    assert.equal(guest.state.is === "closed" && guest.state.why?.name, "TOKEN_REQUIRED");

    let asked = 0;
    const good = await mint(server, "ann");
    const given = client({ url: server.url, token: () => (asked++ === 0 ? "stale" : good) });
    await online(given);
    assert.equal(asked, 2);
    const never = client({ url: server.url, token: () => "stale" });
    await until("it gives up", () => never.state.is === "closed");
  },
);

check("a token is renewed in place before it ends", async () => {
  const server = await Server.start(WITH_USERS);
  let asked = 0;
  const states: string[] = [];
  const live = client({
    url: server.url,
    // The warning comes 60 s before the first one ends.
    token: () => mint(server, "ann", asked++ === 0 ? 62 : 600),
  });
  live.on("state", ({ is }) => states.push(is));
  live.on("error", ({ name }) => states.push(name));
  await until("it is in", () => live.room("stage").joined);
  await until("another one was asked for", () => asked === 2);
  await sleep(500);
  assert.deepEqual(states, ["connecting", "online"], "the connection stood");
  assert.equal((await live.room("stage").publish("still here")).outcome, "accepted");
});

check("a server that goes away says so, and its clients come back by themselves", async () => {
  const server = await Server.start("[engine]\ndrain_spread_ms = 200\n");
  const ann = client({ url: server.url });
  const heard = hearing(ann);
  await until("it is in", () => ann.room("stage").joined);
  server.signal("SIGTERM");
  await until("it noticed", () => ann.state.is === "waiting");
  assert.equal(ann.state.is === "waiting" && ann.state.why, undefined);
  await server.kill();
  await server.startAgain();
  await until("it is back", () => ann.room("stage").joined);
  await ann.room("stage").publish("hello again");
  await until("it is heard", () => heard.length === 1);
});

check("a room that is left is not joined again, and one that is closed says why", async () => {
  const server = await Server.start();
  const line = await Wire.to(server);
  const ann = client({ url: line.url });
  const codes: number[] = [];
  const stage = ann.room("stage");
  stage.on("left", ({ code }) => codes.push(code));
  await until("it is in", () => stage.joined);
  stage.leave();
  await until("it is out", () => codes.length === 1);
  const lobby = ann.room("lobby");
  lobby.on("left", ({ code }) => codes.push(code));
  await until("it is in", () => lobby.joined);
  line.cut();
  await until("it noticed", () => ann.state.is === "waiting");
  line.mend();
  await until("it is in again", () => lobby.joined);
  await until("nobody is in the other one", async () => {
    const { rooms } = await server.ask("GET", "/v1/rooms");
    return !rooms.find((room: { room: string }) => room.room === "stage")?.viewers;
  });
  await server.ask("DELETE", "/v1/rooms/lobby");
  await until("it is told", () => codes.length === 2);
  assert.deepEqual(codes, [0, 2012]);
});

check("a listener that fails stops nobody else", async () => {
  const server = await Server.start();
  const ann = client({ url: server.url });
  let failures = 0;
  const later = globalThis.queueMicrotask;
  globalThis.queueMicrotask = (task) =>
    later(() => {
      try {
        task();
      } catch {
        failures += 1;
      }
    });
  ann.room("stage").on("message", () => {
    throw new Error("a page's own");
  });
  const heard = hearing(ann);
  await until("it is in", () => ann.room("stage").joined);
  await ann.room("stage").publish("hello");
  await until("the other one heard it", () => heard.length === 1);
  await until("the failure is told", () => failures === 1);
  globalThis.queueMicrotask = later;
});
