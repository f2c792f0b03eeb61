/** What was done by moderators and operators, the newest first; of all rooms or one. */

import { ask } from "./api.js";
import { action, field, make } from "../elements.js";

interface Entry {
  at_unix_ms: number;
  who: string;
  from: string;
  what: string;
  room: string;
  whom: string;
  detail: string;
  reason: string;
}

const COLUMNS = ["When", "Who", "From", "What", "Room", "Whom", "Detail", "Reason"];
/** Entries of a page. */
const SHOWN = 50;

/** `name`: of this room; empty: of all. */
export async function openAudit(place: HTMLElement, name: string): Promise<void> {
  const rows = make("tbody");
  let next: string | undefined;
  const page = async () => {
    const query = new URLSearchParams({ limit: `${SHOWN}` });
    if (name !== "") query.set("room", name);
    if (next !== undefined) query.set("after", next);
    const read = (await ask("GET", `/v1/audit?${query}`)) as { entries: Entry[]; next?: string };
    rows.append(...read.entries.map(row));
    next = read.next;
    more.hidden = next === undefined;
  };
  const more = action("More", [], async () => {
    await page();
    return "";
  });
  const find = action(
    "Show",
    [field("room, empty: all", "room", { value: name })],
    async (given) => {
      location.hash = `audit/${encodeURIComponent(`${given.get("room")}`.trim())}`;
      return "";
    },
  );
  await page();
  const head = make("tr", {}, ...COLUMNS.map((column) => make("th", {}, column)));
  const table = make("table", {}, make("thead", {}, head), rows);
  place.replaceChildren(make("h2", {}, "Audit log"), find, table, more);
}

function row(entry: Entry): HTMLElement {
  const { at_unix_ms, who, from, what, room, whom, detail, reason } = entry;
  const when = new Date(at_unix_ms).toLocaleString("sv");
  const cells = [when, who, from, what, room, whom, detail, reason];
  return make("tr", {}, ...cells.map((cell) => make("td", {}, cell)));
}
