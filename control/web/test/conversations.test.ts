/** Conversations by the SDK against a real server: nothing lost, nothing twice, whatever breaks. */

import assert from "node:assert/strict";
import { Account, SendRefused, StoredMessage, Uproar } from "../sdk/index.js";
import { client } from "./client.js";
import { check, mint, Server, sleep, until, Wire, WITH_USERS } from "./server.js";

async function befriend(server: Server, user: string, peer: string): Promise<void> {
  await server.ask("PUT", "/v1/relations", { relations: [{ user, peer, friends: true }] });
}

interface Device {
  live: Uproar;
  /** Texts by conversation, in the order in which they were handed on. */
  heard: Map<string, StoredMessage[]>;
  texts(conversation: string): string[];
}

function device(server: Server, user: string, url = server.url): Device {
  const live = client({ url, token: () => mint(server, user), inbox: true });
  const heard = new Map<string, StoredMessage[]>();
  live.conversations.on("message", ({ conversation, message }) => {
    heard.set(conversation, [...(heard.get(conversation) ?? []), message]);
  });
  const texts = (name: string) => (heard.get(name) ?? []).map((message) => message.text);
  return { live, heard, texts };
}

check("friends write to each other, and who was away finds all of it", async () => {
  const server = await Server.start(WITH_USERS);
  await befriend(server, "ann", "bob");
  const ann = device(server, "ann");
  const sent = await ann.live.conversations.send("user:bob", "are you there?");
  assert.equal(sent.seq, 1);
  await ann.live.conversations.send("user:bob", {
    text: "see",
    file: { url: "https://a.example/x" },
  });
  const bob = device(server, "bob");
  await until("all of it is there", () => bob.texts("user:ann").length === 2);
  assert.deepEqual(bob.texts("user:ann"), ["are you there?", "see"]);
  assert.equal(bob.heard.get("user:ann")![1].file?.url, "https://a.example/x");

  // What is read is told.
  const cursors: number[] = [];
  ann.live.conversations.on("cursors", ({ users }) => {
    for (const one of users) if (one.user === "bob") cursors.push(one.read_seq);
  });
  bob.live.conversations.markRead("user:ann", 2);
  await until("ann is told", () => cursors.at(-1) === 2);

  // Reactions, edits, recalls.
  bob.live.conversations.react("user:ann", 1, "👍");
  const kinds = () => ann.heard.get("user:bob")!.map((message) => message.kind);
  await until("the reaction is told", () => kinds().includes("reactions"));
  await ann.live.conversations.edit("user:bob", 1, "still there?");
  await ann.live.conversations.recall("user:bob", 2);
  await until("bob is told", () => {
    return bob.heard.get("user:ann")!.at(-1)!.kind === "recall";
  });
  await assert.rejects(ann.live.conversations.edit("user:bob", 2, "x"), (error: SendRefused) => {
    return error instanceof SendRefused && error.code > 2000;
  });
});

check("who is no friend is refused, and the sender learns why", async () => {
  const server = await Server.start(WITH_USERS);
  await befriend(server, "bob", "carl");
  const ann = device(server, "ann");
  await assert.rejects(ann.live.conversations.send("user:bob", "hi"), (error: SendRefused) => {
    return error.code === 2018;
  });
});

check("sends survive cuts and a killed server: each once and in order", async () => {
  const server = await Server.start(WITH_USERS);
  await befriend(server, "ann", "bob");
  const wire = await Wire.to(server);
  const ann = device(server, "ann", wire.url);
  const bob = device(server, "bob");
  const answers: Promise<unknown>[] = [];
  const says = async (from: number, to: number) => {
    for (let n = from; n < to; n += 1) {
      answers.push(ann.live.conversations.send("user:bob", `${n}`));
      if (n % 10 === 0) await sleep(2);
    }
  };
  await says(0, 100);
  wire.cut();
  await says(100, 200);
  wire.mend();
  await until("they are answered", () => ann.live.conversations.unanswered === 0, 30_000);
  await server.kill();
  await says(200, 300);
  await server.startAgain();
  await Promise.all(answers);
  await until("bob has all", () => bob.texts("user:ann").length >= 300, 60_000);
  // What one's own device is told comes beside the answers, not before them.
  await until("ann has all", () => ann.texts("user:bob").length >= 300, 60_000);
  const expected = Array.from({ length: 300 }, (_, n) => `${n}`);
  assert.deepEqual(bob.texts("user:ann"), expected);
  assert.deepEqual(ann.texts("user:bob"), expected, "the sender's own device too");
});

check("a group tells how many have read", async () => {
  const server = await Server.start(WITH_USERS);
  await befriend(server, "ann", "bob");
  const { groups } = await server.ask("PUT", "/v1/groups", {
    groups: [{ key: "hikers", name: "Hikers", owner: "ann", members: ["bob"] }],
  });
  const name = `group:${groups[0].group}`;
  const [ann, bob] = [device(server, "ann"), device(server, "bob")];
  const counts: number[] = [];
  ann.live.conversations.on("receipts", (told) => counts.push(told.counts.at(-1)!.readers));
  const { seq } = await ann.live.conversations.send(name, "up the hill");
  await until("bob has it", () => bob.texts(name).includes("up the hill"));
  bob.live.conversations.markRead(name, seq);
  await until("ann is told", () => counts.at(-1) === 1);
});

check("presence and signals", async () => {
  const server = await Server.start(WITH_USERS);
  await befriend(server, "ann", "bob");
  const ann = device(server, "ann");
  const seen: boolean[] = [];
  ann.live.conversations.on("presence", (users) => seen.push(...users.map((one) => one.online)));
  await until("it is online", () => ann.live.state.is === "online");
  ann.live.conversations.watch(["bob"]);
  await until("it is answered", () => seen.length === 1);
  const bob = device(server, "bob");
  await until("bob is seen", () => seen.at(-1) === true);
  const signals: string[] = [];
  ann.live.conversations.on("signal", ({ name, user }) => signals.push(`${user} ${name}`));
  await until("it goes out", () => bob.live.conversations.signal("user:ann", "typing"));
  await until("it is seen", () => signals[0] === "bob typing");
});

check("an account logs in, and gets new tokens by itself", async () => {
  const server = await Server.start(
    `${WITH_USERS}[accounts]\nregistration_open = true\naccess_ttl_s = 10\n`,
  );
  const kept = new Map<string, string>();
  const keeper = {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
    removeItem: (key: string) => void kept.delete(key),
  };
  const account = new Account(server.http, keeper);
  assert.equal(await account.token(), "");
  await account.register("ann", "a password of ann");
  await assert.rejects(account.logIn("ann", "another password"), /password/);
  await account.logIn("ann", "a password of ann");
  const first = await account.token();
  assert.equal(await account.token(), first, "it is good for a while");
  await sleep(5_100);
  const [second, third] = await Promise.all([account.token(), account.token()]);
  assert.notEqual(second, first);
  assert.equal(third, second, "two that ask at once get the same");
  assert.deepEqual(await account.ask("GET", "/v1/friends"), { users: [], count: 0 });

  const before = kept.get("uproar.refresh_token");
  await account.refresh();
  assert.notEqual(kept.get("uproar.refresh_token"), before, "for the asking");

  // A page that was loaded anew goes on with what was kept.
  const again = new Account(server.http, keeper);
  assert.notEqual(await again.token(), "");
  kept.set("uproar.refresh_token", "nonsense");
  await assert.rejects(new Account(server.http, keeper).token());
  assert.equal(kept.size, 0, "what has ended is forgotten");
});

check("a login keeps its connection when its token ends, and who follows may speak", async () => {
  // The warning comes 60 s before the end: two seconds from now.
  const accounts = "[accounts]\nregistration_open = true\naccess_ttl_s = 62\n";
  const server = await Server.start(WITH_USERS + accounts);
  const [star, ann] = [new Account(server.http), new Account(server.http)];
  for (const [name, one] of Object.entries({ star, ann })) {
    await one.register(name, `a password of ${name}`);
    await one.logIn(name, `a password of ${name}`);
  }
  await server.ask("POST", "/v1/rooms", { room: "stage", followers_only_s: 0 });
  await server.ask("PUT", "/v1/rooms/stage/roles/star", { role: "owner" });
  const states: string[] = [];
  const given: string[] = [];
  const live = client({
    url: server.url,
    token: async () => {
      given.push(await ann.token());
      return given.at(-1)!;
    },
  });
  live.on("state", ({ is }) => states.push(is));
  live.on("error", ({ name }) => states.push(name));
  const room = live.room("stage");
  await until("it is in", () => room.joined);
  assert.equal((await room.publish("hello")).code, 2035, "only who follows");
  await ann.ask("PUT", "/v1/follows/star");
  await ann.refresh();
  await live.renew();
  await until("a follower may speak", async () => {
    await sleep(100);
    return (await room.publish("hello")).outcome === "accepted";
  });
  const many = given.length;
  await until("the warning got another one", () => given.length > many);
  assert.notEqual(given.at(-1), given.at(-2));
  assert.deepEqual(states, ["connecting", "online"], "the connection stood");
});
