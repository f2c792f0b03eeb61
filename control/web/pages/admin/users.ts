/** One user: what is known of it, its log-ins, and what an operator does about it. */

import { ask } from "./api.js";
import { action, field, make } from "../elements.js";

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
  const kick = action("End all log-ins", [], async () => {
    await ask("DELETE", `${path}/sessions`);
    await again();
    return "ended; their connections close within a second";
  });
  const days = field("days, 0: for ever", "days", { type: "number", min: "0", value: "7" });
  const ban = action("Ban", [days], async (given) => {
    const long = Number(given.get("days"));
    await ask("PUT", `${path}/ban`, long === 0 ? {} : { ban_s: long * DAY_S });
    await again();
    return "banned";
  });
  const unban = action("End the ban", [], async () => {
    await ask("DELETE", `${path}/ban`);
    await again();
    return "may come again";
  });
  place.replaceChildren(
    make("h2", {}, name),
    make("table", { className: "facts" }, make("tbody", {}, ...facts)),
    make("h3", {}, `${sessions.length} log-ins`),
    make(
      "ul",
      {},
      ...sessions.map((one: { device: string; session: string; used_unix_ms: number }) =>
        make(
          "li",
          {},
          `${one.device || "unnamed"}, last used ${new Date(one.used_unix_ms).toLocaleString()}`,
        ),
      ),
    ),
    kick,
    ban,
    unban,
  );
}
