/** The busiest rooms, and one room: what it is set to, and what an operator does in it. */

import { ask } from "./api.js";
import { action, field, make } from "../elements.js";

interface RoomView {
  room: string;
  epoch: string;
  seq: number;
  viewers: number;
  likes: number;
  shards: number;
  settings: {
    attributes: Record<string, string>;
    rate_per_s: number;
    user_rate_per_s: number;
    slow_mode_s: number;
    payload_bytes_max: number;
    viewers_max: number;
    guests_publish: boolean;
  };
}

/** Rooms in the table. */
const SHOWN = 50;

export async function showBusiest(rows: HTMLElement, note: HTMLElement): Promise<void> {
  const { rooms } = (await ask("GET", `/v1/rooms?order=busiest&limit=${SHOWN}`)) as {
    rooms: RoomView[];
  };
  note.textContent = rooms.length === SHOWN ? `the ${SHOWN} busiest` : `${rooms.length} rooms`;
  rows.replaceChildren(
    ...rooms.map((room) => {
      const link = make("a", { href: `#room/${encodeURIComponent(room.room)}` }, room.room);
      const { rate_per_s, slow_mode_s } = room.settings;
      const numbers = [room.viewers, room.seq, room.likes, room.shards, rate_per_s, slow_mode_s];
      const cells = numbers.map((number) =>
        make("td", { className: "number" }, number.toLocaleString("en")),
      );
      return make("tr", {}, make("td", {}, link), ...cells);
    }),
  );
}

/** Draws a room. The figures at its top come anew with each call of the function it returns. */
export async function openRoom(place: HTMLElement, name: string): Promise<() => Promise<void>> {
  const path = `/v1/rooms/${encodeURIComponent(name)}`;
  const figures = make("p", { className: "figures" });
  const look = async () => {
    const room = (await ask("GET", path)) as RoomView;
    const shown = {
      viewers: room.viewers,
      messages: room.seq,
      likes: room.likes,
      shards: room.shards,
    };
    figures.replaceChildren(
      ...Object.entries(shown).map(([what, number]) =>
        make("span", {}, make("b", {}, number.toLocaleString("en")), ` ${what}`),
      ),
    );
    return room;
  };
  const room = await look();
  place.replaceChildren(
    make("h2", {}, name, " ", make("a", { href: `/?room=${encodeURIComponent(name)}` }, "watch")),
    figures,
    ...sayings(path),
    settings(path, room),
    attributes(path, room),
    ...people(path),
    ending(path, name),
  );
  return async () => void (await look());
}

function sayings(path: string): HTMLElement[] {
  const of = make("select", { name: "class" });
  for (const one of ["system", "chat", "gift"]) of.append(make("option", {}, one));
  const fields = [
    field("as", "user", { value: "host", required: true }),
    of,
    field("text", "text", { required: true }),
  ];
  const publish = action("Publish", fields, async (given) => {
    const { outcome, seq } = await ask("POST", `${path}/publish`, Object.fromEntries(given));
    return seq ? `${outcome}, seq ${seq}` : outcome;
  });
  return [make("h3", {}, "Say something"), publish];
}

function settings(path: string, room: RoomView): HTMLElement {
  const numbers = [
    ["messages a second", "rate_per_s"],
    ["of one user", "user_rate_per_s"],
    ["slow mode, seconds", "slow_mode_s"],
    ["bytes of a message", "payload_bytes_max"],
    ["viewers, 0: no bound", "viewers_max"],
  ] as const;
  const fields = numbers.map(([label, name]) =>
    field(label, name, { type: "number", min: "0", value: `${room.settings[name]}` }),
  );
  const { guests_publish: checked } = room.settings;
  fields.push(field("guests may publish", "guests_publish", { type: "checkbox", checked }));
  const form = action("Set", fields, async (given) => {
    const body: Record<string, number | boolean> = {
      guests_publish: given.get("guests_publish") !== null,
    };
    for (const [, name] of numbers) body[name] = Number(given.get(name));
    await ask("PATCH", path, body);
    return "set";
  });
  return make("div", {}, make("h3", {}, "Settings"), form);
}

function attributes(path: string, room: RoomView): HTMLElement {
  const text = Object.entries(room.settings.attributes)
    .map(([key, value]) => `${key}=${value}`)
    .join("\n");
  const area = make("textarea", { name: "attributes", value: text, rows: 4 });
  area.setAttribute("aria-label", "Attributes, each as key=value on a line of its own");
  const form = action("Replace attributes", [area], async (given) => {
    const lines = `${given.get("attributes")}`.split("\n").filter((line) => line.trim() !== "");
    const pairs = lines.map((line) => {
      const at = line.indexOf("=");
      if (at < 1) throw new Error(`"${line}" is not key=value`);
      return [line.slice(0, at).trim(), line.slice(at + 1).trim()];
    });
    await ask("PATCH", path, { attributes: Object.fromEntries(pairs) });
    return "set; members learn it at their next join";
  });
  return make("div", {}, make("h3", {}, "Attributes"), form);
}

function people(path: string): HTMLElement[] {
  const who = () => field("user", "user", { required: true });
  const long = () => field("seconds", "seconds", { type: "number", min: "0", value: "600" });
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
  return [make("h3", {}, "People"), mute, kick];
}

function ending(path: string, name: string): HTMLElement {
  const form = action("Close this room", [], async () => {
    if (!confirm(`Close ${name}? All its viewers are told that it is closed.`)) return "";
    await ask("DELETE", path);
    return "closed";
  });
  return make("div", {}, make("h3", {}, "End"), form);
}
