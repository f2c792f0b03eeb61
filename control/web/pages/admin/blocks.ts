/** Devices and networks that the platform keeps out: seen, kept out, let in again. */

import { ask } from "./api.js";
import { linesOf } from "./room_settings.js";
import { action, choice, field, make } from "../elements.js";
import { afterOf, Paged, rowOf } from "./paged.js";
import { words } from "./words.js";

interface Block {
  kind: "address" | "device";
  value: string;
  until_s: number;
  reason: string;
  at_unix_ms: number;
}

interface Page {
  blocks: Block[];
  kept: boolean;
  next?: string;
}

/** Blocks of a page. */
const SHOWN = 100;
const HOUR_S = 3_600;

/** The list may be long: it is fetched at the beginning and after changes, never by the clock. */
export async function openBlocks(place: HTMLElement): Promise<void> {
  const told = make("output", { className: "done" });
  const note = make("p", { className: "wrong", hidden: true }, words.notKept);
  const read = async (after: string | undefined) => {
    const page = (await ask("GET", `/v1/admin/blocks?limit=${SHOWN}${afterOf(after)}`)) as Page;
    note.hidden = page.kept;
    return { rows: page.blocks.map(row), next: page.next };
  };
  const list = new Paged(words.blockColumns, read, words.blocksShown);
  const row = ({ kind, value, until_s, reason, at_unix_ms }: Block) => {
    const query = new URLSearchParams({ kind, value });
    const end = action(words.letIn, [], async () => {
      await ask("DELETE", `/v1/admin/blocks?${query}`);
      told.textContent = words.isLetIn(value);
      await list.look();
      return "";
    });
    end.querySelector("button")!.setAttribute("aria-label", words.letInLabel(value));
    const since = new Date(at_unix_ms).toLocaleString("sv");
    return rowOf([words.blockKind[kind], value, untilOf(until_s), reason, since, end]);
  };
  await list.look();
  const hint = make("p", { className: "hint" }, words.blocksHint);
  const { count, table, more } = list;
  const title = make("h2", {}, words.blocksTitle);
  place.replaceChildren(title, hint, note, form(list), count, table, more, told);
}

function untilOf(until_s: number): string {
  if (until_s === 0) return words.forEver;
  // Those whose time is over stay in the list until its next change.
  if (until_s * 1_000 <= Date.now()) return words.isOver;
  return new Date(until_s * 1_000).toLocaleString("sv");
}

function form(list: Paged): HTMLElement {
  const values = make("textarea", { name: "values", rows: 3, required: true });
  const hours = { type: "number", min: "0", step: "any", value: "24", required: true };
  const fields = [
    choice(words.blockWhat, "kind", words.blockKinds),
    make("label", {}, `${words.blockValues} `, values),
    field(words.hours, "hours", hours),
    field(words.reason, "reason"),
  ];
  const block = async (given: FormData) => {
    const [kind, reason] = [given.get("kind"), given.get("reason")];
    const long_s = Number(given.get("hours")) * HOUR_S;
    const until_s = long_s === 0 ? 0 : Math.ceil(Date.now() / 1_000 + long_s);
    const blocks = linesOf(given.get("values")).map((value) => ({ kind, value, until_s, reason }));
    const { blocks: done } = (await ask("PUT", "/v1/admin/blocks", { blocks })) as Page;
    await list.look();
    return words.blocked(done.length);
  };
  const sure = (given: FormData) => words.blockSure(linesOf(given.get("values")));
  return action(words.block, fields, block, sure);
}
