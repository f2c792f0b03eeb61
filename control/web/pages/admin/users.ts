/** One user: what is known of it, its log-ins, and what an operator does about it. */

import { ask } from "./api.js";
import { action, field, make } from "../elements.js";
import { words } from "./words.js";

const DAY_S = 86_400;

export async function openUser(place: HTMLElement, name: string): Promise<void> {
  const path = `/v1/admin/users/${encodeURIComponent(name)}`;
  const [user, { sessions }] = await Promise.all([
    ask("GET", path),
    ask("GET", `${path}/sessions`),
  ]);
  const facts = Object.entries(user).map(([key, value]) => {
    const isTime = key.endsWith("_unix_ms") && typeof value === "number" && value > 0;
    const shown = isTime ? new Date(value as number).toLocaleString() : JSON.stringify(value);
    return make("tr", {}, make("th", {}, key), make("td", {}, shown));
  });
  const again = () => openUser(place, name);
  const kick = action(
    words.endLogIns,
    [],
    async () => {
      await ask("DELETE", `${path}/sessions`);
      await again();
      return words.logInsEnded;
    },
    () => words.endLogInsSure(name),
  );
  const fields = [
    field(words.days, "days", { type: "number", min: "0", value: "7" }),
    field(words.reason, "reason"),
  ];
  const ban = action(
    words.banUser,
    fields,
    async (given) => {
      const [long, reason] = [Number(given.get("days")), given.get("reason")];
      await ask("PUT", `${path}/ban`, long === 0 ? { reason } : { ban_s: long * DAY_S, reason });
      await again();
      return words.isBanned;
    },
    () => words.banUserSure(name),
  );
  const unban = action(words.unban, [], async () => {
    await ask("DELETE", `${path}/ban`);
    await again();
    return words.mayCome;
  });
  place.replaceChildren(
    make("h2", {}, name),
    make("table", { className: "facts" }, make("tbody", {}, ...facts)),
    make("h3", {}, words.logIns(sessions.length)),
    make(
      "ul",
      {},
      ...sessions.map((one: { device: string; session: string; used_unix_ms: number }) =>
        make(
          "li",
          {},
          words.lastUsed(one.device || words.unnamed, new Date(one.used_unix_ms).toLocaleString()),
        ),
      ),
    ),
    kick,
    ban,
    unban,
  );
}
