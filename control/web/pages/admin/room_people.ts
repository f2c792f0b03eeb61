/** People of a room: who is there, who is silenced or removed, who has a role. */

import { ask } from "./api.js";
import { linesOf } from "./room_settings.js";
import { action, choice, field, make } from "../elements.js";
import { rowOf } from "./paged.js";
import { bans } from "./room_bans.js";
import { words } from "./words.js";

/** Members that are drawn by chance. */
const SAMPLE = 100;

const who = () => field(words.user, "user", { required: true });
const long = () => field(words.seconds, "seconds", { type: "number", min: "0", value: "600" });
const why = () => field(words.reason, "reason");
/** What is refused with a banned user. */
const boxes = () => [
  field(words.theirDevices, "devices", { type: "checkbox" }),
  field(words.theirAddresses, "addresses", { type: "checkbox" }),
];
const ticked = (given: FormData) => ({
  devices: given.has("devices"),
  addresses: given.has("addresses"),
});

/** `choose` puts a user's name into the forms that take one. */
export function people(
  path: string,
  name: string,
): { elements: HTMLElement[]; choose: (user: string) => void } {
  const list = bans(path, name);
  const users = make("textarea", { name: "users", rows: 3, required: true });
  const forms = [mute(path), kick(path, list.look)];
  const choose = (user: string) => {
    for (const form of forms) form.querySelector<HTMLInputElement>("[name=user]")!.value = user;
    const chosen = linesOf(users.value);
    if (!chosen.includes(user)) users.value = [...chosen, user].join("\n");
  };
  const all = [...sample(path, choose), many(path, users, list.look)];
  const elements = [make("h3", {}, words.people), ...forms, ...all, ...list.elements];
  return { elements, choose };
}

function mute(path: string): HTMLFormElement {
  return action(words.mute, [who(), long(), why()], async (given) => {
    const mute_s = Number(given.get("seconds"));
    const [user, reason] = [given.get("user"), given.get("reason")];
    await ask("POST", `${path}/mute`, { user, mute_s, reason });
    return mute_s === 0 ? words.mayAgain : words.silent(mute_s);
  });
}

function kick(path: string, look: () => Promise<void>): HTMLFormElement {
  const ban = async (given: FormData) => {
    const [user, reason] = [given.get("user"), given.get("reason")];
    const ban_s = Number(given.get("seconds"));
    const body = { user, ban_s, reason, ...ticked(given) };
    const { connections, devices, addresses } = await ask("POST", `${path}/kick`, body);
    await look();
    return words.removed(connections, ban_s, devices, addresses);
  };
  return action(words.ban, [who(), long(), ...boxes(), why()], ban, (given) => {
    const { devices, addresses } = ticked(given);
    return words.banSure(`${given.get("user")}`, Number(given.get("seconds")), devices, addresses);
  });
}

/** A sample of who is there; a name that is pressed goes into the forms. */
function sample(path: string, choose: (user: string) => void): HTMLElement[] {
  const names = make("p", { className: "names" });
  const look = action(words.whoIsThere, [], async () => {
    const seen = await ask("GET", `${path}/members?limit=${SAMPLE}`);
    names.replaceChildren(
      ...(seen.users as string[]).map((user) => {
        const name = make("button", { type: "button", title: words.choose(user) }, user);
        name.onclick = () => choose(user);
        return name;
      }),
    );
    return words.thereShown(seen.connections, seen.users.length);
  });
  return [look, names];
}

function many(
  path: string,
  users: HTMLTextAreaElement,
  lookAtBans: () => Promise<void>,
): HTMLElement {
  const fields = [
    make("label", {}, `${words.usersALine} `, users),
    choice(words.doToAllLabel, "action", words.deeds),
    long(),
    ...boxes(),
    why(),
  ];
  const deed = async (given: FormData) => {
    const body: Record<string, unknown> = {
      action: given.get("action"),
      users: linesOf(given.get("users")),
      reason: given.get("reason"),
      ...ticked(given),
    };
    if (body.action !== "kick") body.seconds = Number(given.get("seconds"));
    const { results } = (await ask("POST", `${path}/moderation`, body)) as {
      results: { user: string; error?: { text: string } }[];
    };
    if (body.action === "ban") await lookAtBans();
    const failed = results.filter(({ error }) => error);
    const done = words.doneTo(results.length - failed.length, results.length);
    if (failed.length === 0) return done;
    throw new Error([done, ...failed.map((one) => `${one.user}: ${one.error!.text}`)].join("; "));
  };
  return action(words.doToAll, fields, deed, (given) => {
    const what = given.get("action") as keyof typeof words.deeds;
    // A mute is taken back by another one, of 0 seconds.
    if (what === "mute") return "";
    return words.doToAllSure(words.deeds[what], linesOf(given.get("users")).length);
  });
}

export function roles(path: string): HTMLElement {
  const rows = make("tbody");
  const of = choice(words.role, "role", words.roleNames);
  const at = (user: string) => `${path}/roles/${encodeURIComponent(user)}`;
  const give = action(words.giveRole, [who(), of], async (given) => {
    await ask("PUT", at(`${given.get("user")}`), { role: given.get("role") });
    await look();
    return words.given;
  });
  const look = async () => {
    const { roles } = (await ask("GET", `${path}/roles`)) as {
      roles: { user: string; role: keyof typeof words.roleNames }[];
    };
    rows.replaceChildren(
      ...roles.map(({ user, role }) => {
        const take = action(words.take, [], async () => {
          await ask("DELETE", at(user));
          await look();
          return "";
        });
        return rowOf([user, words.roleNames[role], take]);
      }),
    );
  };
  // A node without a store has no roles: it says so, and the rest of the room is there.
  const trouble = make("p", { className: "wrong" });
  void look().catch((error: Error) => (trouble.textContent = error.message));
  const table = make("table", { className: "facts" }, rows);
  return make("div", {}, make("h3", {}, words.roles), table, give, trouble);
}
