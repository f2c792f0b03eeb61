/**
 * The room page: wires the SDK to what is seen. Owns the page's elements, nothing of the protocol.
 */

import { Account, ApiError, Fate, Options, Quality, Recorded, Room } from "../../sdk/index.js";
import { QualityOptions, State, Uproar } from "../../sdk/index.js";
import { TOKEN_CODES } from "../../sdk/client.js";
import { addresses } from "../addresses.js";
import { showState } from "../banner.js";
import { fillIn } from "../language.js";
import { Danmaku } from "./danmaku.js";
import { Gifts } from "./gifts.js";
import { Lines } from "./lines.js";
import { Announced, Entered } from "./notices.js";
import { Pinned } from "./pinned.js";
import { Polls } from "./polls.js";
import { Screen } from "./screen.js";
import { Talk } from "./talk.js";
import { Watch, watch } from "./watch.js";
import { words } from "./words.js";

/** What the server writes into the page. */
interface Settings {
  room: string;
  video_url: string;
}

const SLOW_DOWN = 1001;
const SLOW_MODE = 1002;
/** A recording that is not there is looked for again after so long. */
const AGAIN_MS = 3_000;
const NOT_FOUND = 404;
/** What the gift button gives. */
const GIFT = "🌹";

const $ = <Kind extends HTMLElement>(id: string) => document.getElementById(id) as Kind;

const settings: Settings = {
  room: "lobby",
  video_url: "",
  ...JSON.parse($("settings").textContent ?? "{}"),
};
const query = new URLSearchParams(location.search);
const roomName = query.get("room") ?? settings.room;

fillIn(document, words);
const lines = new Lines($("lines"), $("newest"));
const danmaku = new Danmaku($("danmaku"));
const talk = new Talk(lines, danmaku, new Gifts($("gifts")));
const pinned = new Pinned($("pinned"));
const polls = new Polls($("polls"), (poll, option) => room.vote(poll, option), note);
const announced = new Announced($("announced"));
const entered = new Entered($("entered"));
const input = $<HTMLInputElement>("text");
const send = $<HTMLButtonElement>("send");

// ---------------------------------------------------------------- connecting

const account = new Account();
/** A token may be handed over behind the `#`, which no server is told. */
const handed = new URLSearchParams(location.hash.slice(1)).get("token");
const token = async () => handed ?? account.token();

let live: Uproar;
/** What plays tells the server how it does. */
const quality = settings.video_url === "" ? undefined : new Quality(whereItPlays());
const playing = quality?.watch($("video"), { errors: false });
const screen = new Screen(settings.video_url, $("video"), $("pattern"), playing);

function whereItPlays(): QualityOptions {
  const of = recorded();
  const room = of === undefined ? roomName : "room" in of ? of.room : undefined;
  const { host } = new URL(settings.video_url, location.href);
  return { room, cdn: host.slice(0, 64), token, live: () => live };
}

const options: Options = {
  url: addresses,
  token,
  variant: query.get("wire") === "json" ? "json" : "proto",
};

let room: Room;

function connect(): void {
  live?.close();
  live = new Uproar(options);
  room = live.room(roomName);
  live.on("state", told);
  live.on("announced", ({ user, text = "" }) => announced.show(user, text));
  room.on("joined", (joined) => {
    if (talk.joined(joined)) polls.clear();
    polls.joined(joined.polls);
    entitle(joined.attributes);
    const followers_s = room.followersOnly_s;
    ask(followers_s === undefined ? words.placeholder : words.followersOnly(followers_s));
  });
  room.on("attributes", ({ attributes }) => entitle(attributes));
  room.on("count", (count) => {
    $("viewers").textContent = count.viewers.toLocaleString();
    $("likes").textContent = count.likes.toLocaleString();
  });
  room.on("message", (message) => talk.heard(message));
  room.on("held", ({ messages }) => talk.held(messages));
  room.on("recalled", ({ seqs }) => talk.recalled(seqs));
  room.on("said", (said) => talk.said(said, whoAmI()));
  room.on("verdict", judged);
  room.on("pinned", ({ message }) => pinned.show(message));
  room.on("poll", (poll) => polls.show(poll));
  room.on("voted", (voted) => polls.voted(voted));
  room.on("entered", ({ users, more }) => entered.show(users, more));
  room.on("gap", ({ from_seq, to_seq }) => {
    const text = to_seq === 0 ? words.gapUnknown : words.gap(to_seq - from_seq + 1);
    lines.add({ user: "", text, kind: "note" });
  });
  room.on("left", () => lines.add({ user: "", text: words.left, kind: "note" }));
  room.on("error", ({ text }) => note(words.refused(text)));
  Object.assign(globalThis, { live, room });
}

/** Whether a token permits gifts. */
function mayGive(token: string): boolean {
  try {
    const claims = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(atob(claims)).publish.includes("gift");
  } catch {
    return false; // a guest's, or one without a word on it
  }
}

/** The application's title of the room, where it has one. */
function entitle({ title }: Record<string, string>): void {
  const shown = title || roomName;
  $("title").textContent = shown;
  document.title = `${shown} · uproar`;
}

/** Takes in what the connection does. */
function told(state: State): void {
  const reason = (_code: number, text: string) => text;
  showState(state, words, { reconnect: () => live.reconnect(), connect, reason });
  if (state.is === "online") note("");
  if (state.is === "online") void token().then((who) => ($("gift").hidden = !mayGive(who)));
  if (state.is !== "closed" || !state.why || handed) return;
  if (TOKEN_CODES.includes(state.why.code)) signIn(connect);
}

/** Asks who it is, until the server knows. */
function signIn(then: () => void): void {
  const dialog = $<HTMLDialogElement>("sign-in");
  const form = dialog.querySelector("form")!;
  form.onsubmit = async (event) => {
    event.preventDefault();
    const given = new FormData(form);
    try {
      await account.logIn(`${given.get("user")}`, `${given.get("password")}`);
      dialog.close();
      then();
    } catch (error) {
      form.querySelector(".wrong")!.textContent = (error as Error).message;
    }
  };
  if (!dialog.open) dialog.showModal();
}

// ---------------------------------------------------------------- what is said

const whoAmI = () => (live.state.is === "online" ? live.state.welcome.user : "");

/** Why it was not said, to who said it. */
function judged(fate: Fate): void {
  talk.judged(fate);
  if (fate.outcome !== "refused") return;
  if (fate.code === SLOW_MODE || fate.code === SLOW_DOWN) return hold(fate.retry_after_ms);
  const why = fate.reason || words.code(fate.code, Math.ceil(fate.retry_after_ms / 1_000));
  note(why ?? words.refused(`${fate.code}`));
}

/** What stands where one writes. */
function ask(text: string): void {
  input.placeholder = text;
  input.setAttribute("aria-label", text);
}

function note(text: string): void {
  $("note").textContent = text;
}

let held: ReturnType<typeof setInterval> | undefined;

/** The send button counts down for so long. */
function hold(ms: number): void {
  clearInterval(held);
  const until_ms = Date.now() + ms;
  const tick = () => {
    const left = Math.ceil((until_ms - Date.now()) / 1_000);
    send.disabled = left > 0;
    send.textContent = left > 0 ? words.wait(left) : words.send;
    if (left <= 0) clearInterval(held);
  };
  held = setInterval(tick, 200);
  tick();
}

$("say").onsubmit = (event) => {
  event.preventDefault();
  const text = input.value.trim();
  if (text === "" || send.disabled) return;
  const state = live?.state;
  const bytes_max = state?.is === "online" ? state.welcome.payload_bytes_max : Infinity;
  const isTooLong = new TextEncoder().encode(text).length > bytes_max;
  note(isTooLong ? words.tooLong(bytes_max) : "");
  if (isTooLong) return;
  if (watching) return void write(watching, text);
  input.value = "";
  void room.publish(text);
  if (room.slowMode_s > 0) hold(room.slowMode_s * 1_000);
};

// ---------------------------------------------------------------- the rest of the page

$("like").onclick = () => {
  room.like();
  const heart = document.createElement("i");
  heart.className = "heart";
  heart.textContent = "♥";
  heart.style.setProperty("--drift", `${Math.round(Math.random() * 60 - 30)}px`);
  heart.onanimationend = () => heart.remove();
  $("like").append(heart);
};

$("gift").onclick = () => void room.sendGift(GIFT);

const flying = $<HTMLButtonElement>("flying");
flying.onclick = () => {
  const on = flying.getAttribute("aria-pressed") !== "true";
  flying.setAttribute("aria-pressed", `${on}`);
  danmaku.visible = on;
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") return input.blur();
  if (event.target instanceof HTMLInputElement || $<HTMLDialogElement>("sign-in").open) return;
  const isButton = event.target instanceof HTMLButtonElement;
  if ((event.key === "Enter" || event.key === " ") && isButton) return;
  const acts: Record<string, () => void> = {
    "/": () => input.focus(),
    enter: () => input.focus(),
    l: () => $("like").click(),
    d: () => flying.click(),
    ...(watching && {
      " ": () => watching?.controls.toggle(),
      arrowleft: () => watching?.controls.step(-1),
      arrowright: () => watching?.controls.step(1),
    }),
  };
  const act = acts[event.key.toLowerCase()];
  if (!act) return;
  event.preventDefault();
  act();
});

ask(words.placeholder);
send.textContent = words.send;
$("like").setAttribute("aria-label", words.like);
$("gift").setAttribute("aria-label", words.gift);
flying.textContent = words.flying;
setInterval(() => {
  const fps = danmaku.fps();
  $("fps").textContent = fps > 0 ? `${Math.round(fps)} fps` : "";
}, 1_000);

/** What the page measures of itself; for its tests and for whoever is curious. */
Object.assign(globalThis, {
  figures: () => ({
    fps: danmaku.fps(),
    flying: danmaku.shown,
    crowded: danmaku.crowded,
    told: watching?.told ?? [],
    way: screen.way,
  }),
});

// ---------------------------------------------------------------- a replay instead of a room

let watching: Watch | undefined;

/** What the address asks to see again, if anything. */
function recorded(): Recorded | undefined {
  const [video, replay] = [query.get("video"), query.get("replay")];
  if (video) return { video };
  return replay ? { room: replay, recording: query.get("recording") ?? undefined } : undefined;
}

async function replay(of: Recorded): Promise<void> {
  document.body.dataset.replay = "";
  const name = "video" in of ? of.video : of.room;
  $("title").textContent = name;
  document.title = `${name} · uproar`;
  $("figures").hidden = $("like").hidden = true;
  $("say").hidden = !("video" in of);
  const [video, controls] = [$<HTMLVideoElement>("video"), $("controls")];
  video.loop = false;
  const parts = { account, screen, video, lines, danmaku, controls, note };
  try {
    watching = await watch(of, { ...parts, signIn: () => signIn(() => $("text").focus()) });
    document.body.dataset.state = "replay";
    note("");
  } catch (error) {
    note(words.refused((error as Error).message));
    // What was said a moment ago is kept a moment later.
    const isEarly = error instanceof ApiError && error.status === NOT_FOUND;
    if (isEarly) setTimeout(() => void replay(of), AGAIN_MS);
  }
}

async function write(watching: Watch, text: string): Promise<void> {
  if (await watching.write(text)) input.value = "";
}

const wanted = recorded();
if (wanted) void replay(wanted);
else connect();
