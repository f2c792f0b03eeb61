/**
 * The operator's page: live charts from /metrics, rooms, users, who is kept out, the filter,
 * the audit log, and the end of this node.
 *
 * Owns which view is seen and how often it asks. Every number comes from /metrics or the interface.
 */

import { ask, Refused } from "./api.js";
import { openAudit } from "./audit.js";
import { openBlocks } from "./blocks.js";
import { broadcast } from "./broadcast.js";
import { ChartView } from "./chart.js";
import { make } from "../elements.js";
import { fillIn } from "../language.js";
import { CHARTS, shown, TILES } from "./figures.js";
import { openFilter } from "./filter.js";
import { History, parse } from "./metrics.js";
import { openQuality } from "./quality.js";
import { openRoom, showBusiest } from "./rooms.js";
import { openUser } from "./users.js";
import { words } from "./words.js";

const EVERY_MS = 2_000;
const SPAN_MS = 5 * 60_000;
const TOKEN_REQUIRED = 401;

const $ = <Kind extends HTMLElement>(id: string) => document.getElementById(id) as Kind;

fillIn(document, words);
document.title = words.title;
const history = new History(SPAN_MS);
const charts = CHARTS.map((chart) => new ChartView(chart));
$("charts").append(...charts.map((chart) => chart.element));
$("broadcast").append(...broadcast());
/** Of the room or view that is open: its figures, anew. */
let lookAgain: (() => Promise<void>) | undefined;
/** Ends what goes on in it. */
let leave: (() => void) | undefined;
let isOut = false;

// ---------------------------------------------------------------- what is seen

async function scrape(): Promise<void> {
  const text = (await ask("GET", "/metrics")) as string;
  history.add({ at_ms: Date.now(), scrape: parse(text) });
  if ($("overview").hidden) return;
  const { scrape } = history.last!;
  $("tiles").replaceChildren(
    ...TILES.map(({ name, key, unit, of }) => {
      const number = make("b", {}, shown(of(scrape), unit));
      number.dataset.key = key;
      number.dataset.value = `${of(scrape)}`;
      return make("li", {}, number, ` ${words.tiles[name]}`);
    }),
  );
  for (const chart of charts) chart.draw(history);
}

async function tick(): Promise<void> {
  if (document.hidden || isOut) return;
  const [view] = where();
  const asked: Promise<unknown>[] = [scrape()];
  if (view === "rooms") asked.push(showBusiest($("room-rows"), $("rooms-note")));
  if (lookAgain) asked.push(lookAgain());
  await guarded(() => Promise.all(asked), "look");
}

const where = () => location.hash.slice(1).split("/").map(decodeURIComponent);

/** Views that are fetched when they are opened, and after what is done in them. */
const OPENED: Record<string, (place: HTMLElement, name: string) => Promise<void>> = {
  blocks: openBlocks,
  filter: openFilter,
  audit: openAudit,
};

/** Shows what the address names. */
async function show(): Promise<void> {
  const [view = "overview", name] = where();
  const known = ["overview", "rooms", "room", "users", "blocks", "quality", "filter", "audit"];
  const seen = known.includes(view) ? view : "overview";
  for (const one of known) $(one).hidden = one !== seen;
  for (const link of document.querySelectorAll("nav a")) {
    link.toggleAttribute("aria-current", link.getAttribute("href") === `#${seen}`);
  }
  leave?.();
  lookAgain = leave = undefined;
  if (seen === "room" && name) {
    $("room").replaceChildren();
    await guarded(async () => {
      const room = await openRoom($("room"), name);
      [lookAgain, leave] = [room.look, room.leave];
    });
  }
  if (seen === "quality") lookAgain = openQuality($("quality"));
  const open = OPENED[seen];
  if (open) {
    $(seen).replaceChildren();
    await guarded(() => open($(seen), name ?? ""));
  }
  if (seen === "users" && name) {
    $("user").replaceChildren();
    await guarded(() => openUser($("user"), name));
  }
  await tick();
}

/**
 * Says what went wrong, and asks for the password where that is it. What somebody did and went
 * wrong is said until something else is done; a look that went wrong, until one goes well.
 */
async function guarded(what: () => Promise<unknown>, by: "act" | "look" = "act"): Promise<void> {
  const trouble = $("trouble");
  if (by === "act") trouble.hidden = true;
  try {
    await what();
    if (trouble.dataset.by === "look") trouble.hidden = true;
  } catch (error) {
    if (error instanceof Refused && error.status === TOKEN_REQUIRED) return logIn();
    trouble.textContent = (error as Error).message;
    trouble.dataset.by = by;
    trouble.hidden = false;
  }
}

// ---------------------------------------------------------------- who looks

function logIn(): void {
  isOut = true;
  const dialog = $<HTMLDialogElement>("log-in");
  const form = dialog.querySelector("form")!;
  dialog.oncancel = (event) => event.preventDefault();
  form.onsubmit = async (event) => {
    event.preventDefault();
    try {
      const password = new FormData(form).get("password");
      await ask("POST", "/v1/admin/session", { password });
      form.reset();
      dialog.close();
      await begin();
    } catch (error) {
      form.querySelector(".wrong")!.textContent = (error as Error).message;
    }
  };
  if (!dialog.open) dialog.showModal();
}

async function begin(): Promise<void> {
  isOut = false;
  await guarded(async () => {
    await ask("GET", "/v1/admin/session");
    const { version, io, shards } = await ask("GET", "/v1/node");
    $("node").textContent = words.node(location.host, version, io, shards);
  });
  if (!isOut) await show();
}

$("log-out").onclick = async () => {
  await guarded(() => ask("DELETE", "/v1/admin/session"));
  location.reload();
};

$("drain").onclick = async () => {
  if (confirm(words.drainSure)) await guarded(() => ask("POST", "/v1/node/drain"));
};

for (const [form, name, view] of [
  ["find-room", "room", "room"],
  ["find-user", "user", "users"],
]) {
  $<HTMLFormElement>(form).onsubmit = (event) => {
    event.preventDefault();
    const asked = new FormData(event.target as HTMLFormElement).get(name);
    location.hash = `${view}/${encodeURIComponent(`${asked}`)}`;
  };
}

addEventListener("hashchange", () => void show());
setInterval(() => void tick(), EVERY_MS);
void begin();
