/** People of a room: who is there, who is silenced or removed, who has a role. */

import { ask } from "./api.js";
import { linesOf } from "./room_settings.js";
import { action, field, make } from "../elements.js";

/** Members that are drawn by chance. */
const SAMPLE = 100;

const who = () => field("user", "user", { required: true });
const long = () => field("seconds", "seconds", { type: "number", min: "0", value: "600" });

export function people(path: string): HTMLElement[] {
  const mute = action("Mute", [who(), long()], async (given) => {
    const mute_s = Number(given.get("seconds"));
    await ask("POST", `${path}/mute`, { user: given.get("user"), mute_s });
    return mute_s === 0 ? "may speak again" : `silent for ${mute_s} s`;
  });
  const kick = action("Remove and ban", [who(), long()], async (given) => {
    const ban_s = Number(given.get("seconds"));
    const { connections } = await ask("POST", `${path}/kick`, { user: given.get("user"), ban_s });
    return `${connections} connections removed, banned for ${ban_s} s`;
  });
  const users = make("textarea", { name: "users", rows: 3, required: true });
  return [make("h3", {}, "People"), mute, kick, ...sample(path, users), many(path, users)];
}

/** A sample of who is there; a name that is pressed goes to those that are acted on together. */
function sample(path: string, users: HTMLTextAreaElement): HTMLElement[] {
  const names = make("p", { className: "names" });
  const look = action("Who is there", [], async () => {
    const seen = await ask("GET", `${path}/members?limit=${SAMPLE}`);
    names.replaceChildren(
      ...(seen.users as string[]).map((user) => {
        const name = make("button", { type: "button" }, user);
        name.onclick = () => {
          const chosen = linesOf(users.value);
          if (!chosen.includes(user)) users.value = [...chosen, user].join("\n");
        };
        return name;
      }),
    );
    return `${seen.connections.toLocaleString("en")} connections, ${seen.users.length} users shown`;
  });
  return [look, names];
}

function many(path: string, users: HTMLTextAreaElement): HTMLElement {
  const of = make("select", { name: "action" });
  for (const one of ["ban", "kick", "mute"]) of.append(make("option", {}, one));
  of.setAttribute("aria-label", "What is done to all of them");
  const fields = [
    make("label", {}, "users, one a line ", users),
    of,
    long(),
    field("reason", "reason"),
  ];
  return action("Do it to all", fields, async (given) => {
    const body: Record<string, unknown> = {
      action: given.get("action"),
      users: linesOf(given.get("users")),
      reason: given.get("reason"),
    };
    if (body.action !== "kick") body.seconds = Number(given.get("seconds"));
    const { results } = (await ask("POST", `${path}/moderation`, body)) as {
      results: { user: string; error?: { text: string } }[];
    };
    const failed = results.filter(({ error }) => error);
    const done = `done to ${results.length - failed.length} of ${results.length}`;
    if (failed.length === 0) return done;
    throw new Error([done, ...failed.map((one) => `${one.user}: ${one.error!.text}`)].join("; "));
  });
}

export function roles(path: string): HTMLElement {
  const rows = make("tbody");
  const of = make("select", { name: "role" });
  for (const one of ["moderator", "owner"]) of.append(make("option", {}, one));
  of.setAttribute("aria-label", "Role");
  const at = (user: string) => `${path}/roles/${encodeURIComponent(user)}`;
  const give = action("Give the role", [who(), of], async (given) => {
    await ask("PUT", at(`${given.get("user")}`), { role: given.get("role") });
    await look();
    return "given";
  });
  const look = async () => {
    const { roles } = (await ask("GET", `${path}/roles`)) as {
      roles: { user: string; role: string }[];
    };
    rows.replaceChildren(
      ...roles.map(({ user, role }) => {
        const take = action("Take", [], async () => {
          await ask("DELETE", at(user));
          await look();
          return "";
        });
        const cells = [user, role, take].map((one) => make("td", {}, one));
        return make("tr", {}, ...cells);
      }),
    );
  };
  // A node without a store has no roles: it says so, and the rest of the room is there.
  const trouble = make("p", { className: "wrong" });
  void look().catch((error: Error) => (trouble.textContent = error.message));
  const table = make("table", { className: "facts" }, rows);
  return make("div", {}, make("h3", {}, "Roles"), table, give, trouble);
}
