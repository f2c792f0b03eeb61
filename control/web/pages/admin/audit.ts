/** What was done by moderators and operators, the newest first; of all rooms or one. */

import { ask } from "./api.js";
import { action, field, make } from "../elements.js";
import { afterOf, Paged, rowOf } from "./paged.js";
import { words } from "./words.js";

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

/** Entries of a page. */
const SHOWN = 50;

/** `name`: of this room; empty: of all. */
export async function openAudit(place: HTMLElement, name: string): Promise<void> {
  const of = name === "" ? "" : `&room=${encodeURIComponent(name)}`;
  const read = async (after: string | undefined) => {
    const page = await ask("GET", `/v1/audit?limit=${SHOWN}${of}${afterOf(after)}`);
    const { entries, next } = page as { entries: Entry[]; next?: string };
    return { rows: entries.map(row), next };
  };
  const list = new Paged(words.auditColumns, read, () => "");
  const room = field(words.auditRoom, "room", { value: name });
  const find = action(words.show, [room], async (given) => {
    location.hash = `audit/${encodeURIComponent(`${given.get("room")}`.trim())}`;
    return "";
  });
  await list.look();
  place.replaceChildren(make("h2", {}, words.auditTitle), find, list.table, list.more);
}

function row(entry: Entry): HTMLElement {
  const { at_unix_ms, who, from, what, room, whom, detail, reason } = entry;
  const when = new Date(at_unix_ms).toLocaleString("sv");
  return rowOf([when, who, from, what, room, whom, detail, reason]);
}
