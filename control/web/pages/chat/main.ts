/**
 * The chat page: wires the SDK to the conversations that are seen. Owns the page's elements,
 * nothing of the protocol.
 */

import { Account, ApiError, State, StoredMessage, Uproar, UserPresence } from "../../sdk/index.js";
import { TOKEN_CODES } from "../../sdk/client.js";
import { addresses } from "../addresses.js";
import { showState } from "../banner.js";
import { fillIn } from "../language.js";
import { Chat, Chats } from "./chats.js";
import { drawList, momentOf } from "./list.js";
import { drawGroup, drawNewGroup, drawPeople, PanelHost, People } from "./people.js";
import { Thread } from "./thread.js";
import { reason, words } from "./words.js";

/** Of each conversation that is new to the page so many messages come by themselves. */
const RECENT = 50;
/** Whoever types tells of it at most this often. */
const TYPING_EVERY_MS = 3_000;
/** Whose presence is told, at most. */
const WATCHED_MAX = 1_000;

const $ = <Kind extends HTMLElement>(id: string) => document.getElementById(id) as Kind;

fillIn(document, words);
document.title = `${words.page} · uproar`;
const account = new Account("", localStorage);
const people = new People();
const presence = new Map<string, UserPresence>();
const text = $<HTMLTextAreaElement>("text");
let live: Uproar;
/** Whose conversations are shown. */
let shown: Uproar | undefined;
let chats: Chats;
let thread: Thread;

// ---------------------------------------------------------------- who it is

async function begin(): Promise<void> {
  let token = "";
  try {
    token = await account.token();
  } catch (error) {
    // A login that has ended is asked for anew; a server that is away is tried again below.
    if (!(error instanceof ApiError)) token = "later";
  }
  if (token === "") signIn();
  else connect();
}

function signIn(): void {
  const dialog = $<HTMLDialogElement>("sign-in");
  const form = dialog.querySelector("form")!;
  const wrong = form.querySelector(".wrong")!;
  dialog.oncancel = (event) => event.preventDefault();
  form.onsubmit = async (event) => {
    event.preventDefault();
    const given = new FormData(form);
    const [user, password] = [`${given.get("user")}`.trim(), `${given.get("password")}`];
    wrong.textContent = "";
    try {
      const isNew = (event.submitter as HTMLButtonElement | null)?.value === "new";
      if (isNew) await account.register(user, password);
      await account.logIn(user, password);
      form.reset();
      dialog.close();
      connect();
    } catch (error) {
      wrong.textContent = said(error);
    }
  };
  if (!dialog.open) dialog.showModal();
}

/** What went wrong, in words for a person. */
function said(error: unknown): string {
  const text = (error as Error).message;
  return error instanceof ApiError ? reason(error.code, text) : text;
}

$("log-out").onclick = async () => {
  await account.logOut().catch(() => {}); // a login the server does not know has ended as well
  location.assign("/chat");
};

// ---------------------------------------------------------------- the connection

function connect(): void {
  live?.close();
  live = new Uproar({
    url: addresses,
    token: () => account.token(),
    inbox: true,
    recent: RECENT,
  });
  live.on("state", told);
}

/** Who connected is known: everything that is shown is theirs. */
function entered(user: string): void {
  if (shown === live) {
    // Another page of this browser signed in as somebody else: nothing here is theirs.
    if (chats.me !== user) location.reload();
    return;
  }
  shown = live;
  $("me").textContent = user;
  chats = new Chats(user);
  people.forget();
  thread = new Thread(
    $("scroll"),
    $("messages"),
    $("pending"),
    $<HTMLButtonElement>("newest"),
    user,
    {
      older: (chat) => chat.older(live.conversations),
      recall: (chat, { seq }) => void live.conversations.recall(chat.name, seq).catch(trouble),
      react,
      again: (chat, pending) => {
        chat.drop(pending);
        say(chat, pending.text);
      },
      drop: (chat, pending) => {
        chat.drop(pending);
        thread.drawPending();
      },
      seen,
    },
  );
  listen();
  show();
  Object.assign(globalThis, { live, chats });
}

/** Takes in what the connection does. */
function told(state: State): void {
  showState(state, words, { reconnect: () => live.reconnect(), connect, reason });
  if (state.is === "online") entered(state.welcome.user);
  if (state.is === "closed" && state.why && TOKEN_CODES.includes(state.why.code)) signIn();
}

/** Takes in what the SDK tells. What is drawn is drawn once for all that came together. */
function listen(): void {
  const { conversations } = live;
  conversations.on("message", ({ conversation, message }) => came(conversation, message));
  conversations.on("conversation", (state) => {
    const chat = chats.of(state.conversation);
    chat.changed(state);
    if (chat === thread.chat) drawHead();
    redraw();
  });
  conversations.on("cursors", ({ conversation, users }) => {
    const chat = chats.of(conversation);
    chat.cursors(users);
    if (chat === thread.chat) thread.reached();
    redraw();
  });
  conversations.on("receipts", ({ conversation, counts }) => {
    const chat = chats.of(conversation);
    for (const { seq, readers } of counts) chat.readers.set(seq, readers);
    if (chat === thread.chat) thread.reached();
  });
  conversations.on("reacted", ({ conversation, seq, reaction, remove, code }) => {
    const chat = chats.of(conversation);
    const message = chat.find(seq);
    if (!message || code !== 0) return;
    const others = message.own_reactions.filter((one) => one !== reaction);
    message.own_reactions = remove ? others : [...others, reaction];
    if (chat === thread.chat) thread.changed(message);
  });
  conversations.on("related", (state) => {
    people.related(state);
    if (panel === "people") void drawPanel();
    redraw();
  });
  conversations.on("presence", (users) => {
    for (const one of users) presence.set(one.user, one);
    drawHead();
  });
  conversations.on("signal", ({ conversation, name, user }) => {
    if (name !== "typing") return;
    chats.of(conversation).types(user, Date.now());
    drawTyping();
  });
  conversations.on("anew", () => {
    chats.all.clear();
    people.forget();
    show();
  });
  conversations.on("caughtUp", () => (document.body.dataset.caught = "up"));
}

function came(conversation: string, message: StoredMessage): void {
  const chat = chats.of(conversation);
  const changed = chat.take(message);
  redraw();
  if (chat !== thread.chat) return chat.trim();
  if (message.notice) drawHead();
  if (changed === message) thread.added(message);
  else if (changed) thread.changed(changed);
  else seen(chat);
  drawTyping();
}

// ---------------------------------------------------------------- what is drawn

let isDue = false;
let watched = "";

/** Draws the list once the events at hand are taken in. */
function redraw(): void {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(drawAll);
  // A page in the background is given no frames, and counts what is unread all the same.
  if (document.hidden) setTimeout(drawAll, 100);
}

function drawAll(): void {
  if (!isDue) return;
  isDue = false;
  drawList($("chats"), chats, thread.chat);
  $("none").hidden = chats.all.size > 0;
  const asking = people.asking.length;
  $("asking").hidden = asking === 0;
  $("asking").textContent = `${asking}`;
  const unread = chats.sorted().reduce((sum, chat) => sum + chat.unread, 0);
  document.title = `${unread > 0 ? `(${unread}) ` : ""}${words.page} · uproar`;
  const friends = people.friends.slice(0, WATCHED_MAX);
  if (friends.join("\n") === watched) return;
  watched = friends.join("\n");
  live.conversations.watch(friends);
}

/** Shows the conversation that the address names. */
function show(): void {
  const name = decodeURIComponent(location.hash.slice(1));
  const chat = /^(user|group):./.test(name) ? chats.of(name) : undefined;
  thread.chat?.trim();
  document.body.dataset.pane = chat ? "thread" : "list";
  $("thread").hidden = chat === undefined;
  thread.open(chat);
  drawHead();
  drawTyping();
  redraw();
  if (chat && matchMedia("(pointer: fine)").matches) text.focus();
}

function drawHead(): void {
  const { chat } = thread;
  if (!chat) return;
  $("title").textContent = chat.title;
  $("group").hidden = !chat.isGroup || chat.left;
  $("say").hidden = chat.left;
  $("about").textContent = about(chat);
}

function about(chat: Chat): string {
  if (chat.left) return words.gone;
  if (chat.isGroup) return words.members(chat.members);
  const seen = presence.get(chat.peer);
  if (!seen) return "";
  if (seen.online) return words.online;
  return seen.last_seen_ms > 0 ? words.lastSeen(momentOf(seen.last_seen_ms)) : words.offline;
}

function drawTyping(): void {
  const who = thread.chat?.typingNow(Date.now()) ?? [];
  $("typing").textContent = who.length > 0 ? words.typing(who.join(", ")) : "";
}

/** Its reader has seen all of a conversation, if anybody looks. */
function seen(chat: Chat): void {
  if (document.hidden || chat !== thread.chat || !thread.isAtEnd()) return;
  if (chat.last_seq > chat.read_seq) live.conversations.markRead(chat.name, chat.last_seq);
}

addEventListener("hashchange", show);
document.addEventListener("visibilitychange", () => thread?.chat && seen(thread.chat));
setInterval(() => thread && drawTyping(), 1_000);

// ---------------------------------------------------------------- what is said

function say(chat: Chat, text: string): void {
  void chat.send(live.conversations, text, () => {
    if (chat !== thread.chat) return;
    thread.drawPending();
    thread.down();
  });
}

function react(chat: Chat, message: StoredMessage, reaction: string): void {
  const remove = message.own_reactions.includes(reaction);
  live.conversations.react(chat.name, message.seq, reaction, remove);
}

$("say").onsubmit = (event) => {
  event.preventDefault();
  const { chat } = thread;
  const given = text.value.trim();
  if (!chat || given === "") return;
  text.value = "";
  say(chat, given);
};

text.onkeydown = (event) => {
  // While a word is put together (Chinese, Japanese), Enter is the word's.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $<HTMLFormElement>("say").requestSubmit();
};

let typed_ms = 0;
text.oninput = () => {
  const now_ms = Date.now();
  if (!thread.chat || text.value === "" || now_ms < typed_ms + TYPING_EVERY_MS) return;
  if (live.conversations.signal(thread.chat.name, "typing")) typed_ms = now_ms;
};

addEventListener("beforeunload", (event) => {
  if (live?.conversations.unanswered > 0) event.preventDefault();
});

addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  const name = thread?.chat?.name;
  location.hash = "";
  const items = [...document.querySelectorAll<HTMLElement>("#chats li")];
  items
    .find((item) => item.dataset.name === name)
    ?.querySelector("a")
    ?.focus();
});

// ---------------------------------------------------------------- panels

let panel: "people" | "new" | "group" = "people";

const host: PanelHost = {
  account,
  people,
  act: async (what) => {
    $("panel").querySelector(".wrong")!.textContent = "";
    try {
      await what();
      if (panel === "group" && $<HTMLDialogElement>("panel").open) await drawPanel();
    } catch (error) {
      trouble(error);
    }
  },
  write: (conversation) => {
    host.close();
    location.hash = encodeURIComponent(conversation);
  },
  close: () => $<HTMLDialogElement>("panel").close(),
};

function trouble(error: unknown): void {
  const dialog = $<HTMLDialogElement>("panel");
  if (dialog.open) dialog.querySelector(".wrong")!.textContent = said(error);
  else $("typing").textContent = said(error);
}

async function drawPanel(): Promise<void> {
  const draw = {
    people: () => drawPeople(host),
    new: () => drawNewGroup(host),
    group: () => drawGroup(host, thread.chat!.name),
  };
  $("panel-body").replaceChildren(...(await draw[panel]()));
}

for (const [id, kind] of [
  ["people", "people"],
  ["new-group", "new"],
  ["group", "group"],
] as const) {
  $(id).onclick = async () => {
    panel = kind;
    $("panel").querySelector(".wrong")!.textContent = "";
    $("panel-body").replaceChildren();
    $<HTMLDialogElement>("panel").showModal();
    await drawPanel().catch(trouble);
  };
}

void begin();
