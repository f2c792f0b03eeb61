/** Who is banned from a room: seen, and let in again. By whom and why, the audit log tells. */

import { ask, Refused } from "./api.js";
import { action, make } from "../elements.js";
import { afterOf, Paged, rowOf } from "./paged.js";
import { words } from "./words.js";

interface Ban {
  user: string;
  until_unix_ms: number;
  devices: number;
  addresses: number;
}

interface Deed {
  who: string;
  what: string;
  whom: string;
  reason: string;
}

/** Bans of a page. */
const SHOWN = 100;
/** Entries of the audit log in which who banned them is looked for; as many as it gives at once. */
const DEEDS = 500;

/**
 * The list, anew with each call of `look`. It may be long: that is at the beginning and after
 * changes, never by the clock.
 */
export function bans(
  path: string,
  name: string,
): { elements: HTMLElement[]; look: () => Promise<void> } {
  const told = make("output");
  const read = async (after: string | undefined) => {
    const [page, deeds] = await Promise.all([
      ask("GET", `${path}/bans?limit=${SHOWN}${afterOf(after)}`),
      deedsOf(name),
    ]);
    const { bans, next } = page as { bans: Ban[]; next?: string };
    return { rows: bans.map((ban) => row(ban, deeds.get(ban.user))), next };
  };
  const list = new Paged(words.banColumns, read, words.bansShown);
  const tell = (text: string, className: "done" | "wrong") =>
    Object.assign(told, { textContent: text, className });
  // What was done before is done: that the list did not come is said beside it.
  const look = () => list.look().catch((error: Error) => void tell(error.message, "wrong"));
  const row = ({ user, until_unix_ms, devices, addresses }: Ban, deed?: Deed) => {
    const end = action(words.endBan, [], async () => {
      await ask("DELETE", `${path}/bans/${encodeURIComponent(user)}`);
      tell(words.banEnded(user), "done");
      await look();
      return "";
    });
    end.querySelector("button")!.setAttribute("aria-label", words.endBanOf(user));
    const until = new Date(until_unix_ms).toLocaleString("sv");
    const more = words.withThem(devices, addresses);
    return rowOf([user, until, more, deed?.who ?? "", deed?.reason ?? "", end]);
  };
  const again = action(words.again, [], async () => {
    tell("", "done");
    await look();
    return "";
  });
  void look();
  const { count, table, more } = list;
  return { elements: [make("h3", {}, words.bans), count, table, more, told, again], look };
}

/** The last ban of each user in the log of a room; none where the node keeps no log. */
async function deedsOf(name: string): Promise<Map<string, Deed>> {
  const query = new URLSearchParams({ room: name, limit: `${DEEDS}` });
  try {
    const { entries } = (await ask("GET", `/v1/audit?${query}`)) as { entries: Deed[] };
    const bans = entries.filter(({ what }) => what === "ban");
    // The newest comes first in the log, and stays in the map.
    return new Map(bans.reverse().map((deed) => [deed.whom, deed]));
  } catch (error) {
    if (error instanceof Refused) return new Map();
    throw error;
  }
}
