// How long until what a moderator does holds: `node test/moderate.mjs WS HTTP ROOM VIEWERS ROUNDS`,
// while a crowd watches. Started by scripts/bench-moderation, which gives API_KEY.
import { WebSocket } from "ws";
import { Uproar } from "../dist/uproar.js";
import { backend } from "./backend.mjs";

const [url, http, ROOM, viewers, rounds] = process.argv.slice(2);
const WORDS = 100_000;
/** Numbers of PROTOCOL.md's table of codes. */
const CODE = { muted: 2013, roomMuted: 2024, filtered: 2034 };
/** Between two tries. */
const TRY_MS = 20;
const PATIENCE_MS = 10_000;

const ask = backend(http);

const wait = (ms) => new Promise((next) => setTimeout(next, ms));

/** A client that is in the room, with a token. */
async function enter(user) {
  const { token } = await ask("POST", "/v1/tokens", { user });
  const live = new Uproar({ url, token: () => token, WebSocket });
  const room = live.room(ROOM);
  await new Promise((next) => room.once("joined", next));
  return { live, room };
}

/** The first moment from which a try fails with `code`; `deed` is done meanwhile. */
async function refused(room, code, text, deed) {
  const begun = performance.now();
  const done = deed();
  let first;
  while (first === undefined && performance.now() - begun < PATIENCE_MS) {
    const tried = room.publish(text()).then((fate) => {
      if (fate.code === code) first ??= performance.now() - begun;
    });
    await Promise.race([tried, wait(TRY_MS)]);
    await wait(TRY_MS);
  }
  await done;
  if (first === undefined) throw new Error(`no ${code} within ${PATIENCE_MS} ms`);
  return first;
}

/** Until `event` comes to `of` and `fits`. */
async function told(of, event, fits, deed) {
  const begun = performance.now();
  return new Promise((resolve, reject) => {
    const off = of.on(event, (about) => {
      if (!fits(about)) return;
      off();
      resolve(performance.now() - begun);
    });
    setTimeout(
      () => reject(new Error(`no ${event} within ${PATIENCE_MS} ms`)),
      PATIENCE_MS,
    ).unref();
    deed().catch(reject);
  });
}

const of_room = `/v1/rooms/${ROOM}`;
const set = (settings) => ask("PATCH", of_room, settings);
const mute = (mute_s) => ask("POST", `${of_room}/mute`, { user: "bob", mute_s });
let said = 0;
const anything = () => `line ${said++}`;

const words = Array.from({ length: WORDS }, (_, n) => `forbidden${n.toString(36)}word`);
await ask("PUT", "/v1/filter", { words });
while ((await ask("GET", of_room)).viewers < 0.99 * viewers) await wait(500);
await set({ user_rate_per_s: 100, rate_per_s: 100 });
const bob = await enter("bob");
const eve = await enter("eve");

const DEEDS = {
  mute: async () => {
    const took = await refused(bob.room, CODE.muted, anything, () => mute(60));
    await mute(0);
    return took;
  },
  "mute all": async () => {
    const took = await refused(bob.room, CODE.roomMuted, anything, () => set({ mute_all: true }));
    await set({ mute_all: false });
    return took;
  },
  "a word more in the filter": async (round) => {
    const word = `unheard${round}of`;
    const deed = () => ask("PATCH", "/v1/filter", { add_words: [word] });
    return refused(bob.room, CODE.filtered, () => `${anything()} ${word}`, deed);
  },
  recall: async () => {
    const text = `to be recalled ${said++}`;
    let seq;
    await told(
      eve.room,
      "message",
      (one) => one.text === text && (seq = one.seq),
      async () => {
        while (seq === undefined) {
          const fate = await bob.room.publish(text);
          if (fate.outcome === "accepted") return;
          await wait(300); // the crowd was quicker
        }
      },
    );
    const deed = () => ask("POST", `${of_room}/recall`, { seqs: [seq] });
    return told(eve.room, "recalled", ({ seqs }) => seqs.includes(seq), deed);
  },
  ban: async (round) => {
    const { live, room } = await enter(`mallory${round}`);
    const deed = () => ask("POST", `${of_room}/kick`, { user: `mallory${round}`, ban_s: 60 });
    const took = await told(room, "left", () => true, deed);
    live.close();
    return took;
  },
};

const report = {
  viewers: (await ask("GET", of_room)).viewers,
  words: WORDS,
  rounds: Number(rounds),
};
let longest = 0;
for (const [name, deed] of Object.entries(DEEDS)) {
  const took = [];
  for (let round = 0; round < rounds; round += 1) {
    took.push(await deed(round));
    await wait(500 + Math.random() * 500); // at another moment of the window each time
  }
  took.sort((one, other) => one - other);
  longest = Math.max(longest, took.at(-1));
  report[name] = {
    middle_ms: Math.round(took[took.length >> 1]),
    longest_ms: Math.round(took.at(-1)),
  };
}
console.log(JSON.stringify(report, null, 2));
bob.live.close();
eve.live.close();
process.exit(longest <= 1_000 ? 0 : 1);
