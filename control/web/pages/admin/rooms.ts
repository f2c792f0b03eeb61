/** The busiest rooms, and one room: what it is set to, and what an operator does in it. */

import { ask } from "./api.js";
import { action, choice, field, make } from "../elements.js";
import { pins, polls, recalls } from "./room_live.js";
import { people, roles } from "./room_people.js";
import { said } from "./room_said.js";
import { attributes, settings, Settings } from "./room_settings.js";
import { words } from "./words.js";

interface RoomView {
  room: string;
  epoch: string;
  seq: number;
  viewers: number;
  likes: number;
  shards: number;
  settings: Settings;
}

/** Rooms in the table. */
const SHOWN = 50;

export async function showBusiest(rows: HTMLElement, note: HTMLElement): Promise<void> {
  const { rooms } = (await ask("GET", `/v1/rooms?order=busiest&limit=${SHOWN}`)) as {
    rooms: RoomView[];
  };
  const isAll = rooms.length < SHOWN;
  note.textContent = isAll ? words.roomsShown(rooms.length) : words.busiest(SHOWN);
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

/** A room that is seen: `look` fetches its figures anew, `leave` ends what goes on beside. */
export interface RoomSeen {
  look: () => Promise<void>;
  leave: () => void;
}

export async function openRoom(place: HTMLElement, name: string): Promise<RoomSeen> {
  const path = `/v1/rooms/${encodeURIComponent(name)}`;
  const figures = make("p", { className: "figures" });
  const look = async () => {
    const room = (await ask("GET", path)) as RoomView;
    const shown = [
      [words.roomViewers, room.viewers],
      [words.roomMessages, room.seq],
      [words.roomLikes, room.likes],
      [words.roomShards, room.shards],
    ];
    figures.replaceChildren(
      ...shown.map(([what, number]) =>
        make("span", {}, make("b", {}, number.toLocaleString("en")), ` ${what}`),
      ),
    );
    return room;
  };
  const room = await look();
  const asked = polls(path);
  const [taken, there] = [recalls(path), people(path, name)];
  const heard = said(path, name, (user) => {
    taken.choose(user);
    there.choose(user);
  });
  const audit = make("a", { href: `#audit/${encodeURIComponent(name)}` }, words.whatWasDone);
  place.replaceChildren(
    make(
      "h2",
      {},
      name,
      " ",
      make("a", { href: `/?room=${encodeURIComponent(name)}` }, words.watch),
      " ",
      audit,
    ),
    figures,
    ...sayings(path),
    ...heard.elements,
    ...taken.elements,
    ...pins(path),
    ...asked.elements,
    settings(path, room.settings),
    attributes(path, room.settings),
    ...there.elements,
    roles(path),
    ending(path, name),
  );
  return {
    look: async () => void (await Promise.all([look(), asked.look()])),
    leave: heard.leave,
  };
}

function sayings(path: string): HTMLElement[] {
  const fields = [
    field(words.as, "user", { value: "host", required: true }),
    choice(words.classOf, "class", words.classes),
    field(words.text, "text", { required: true }),
  ];
  const publish = action(words.publish, fields, async (given) => {
    const { outcome, seq } = await ask("POST", `${path}/publish`, Object.fromEntries(given));
    return words.published(outcome, seq);
  });
  return [make("h3", {}, words.saySomething), publish];
}

function ending(path: string, name: string): HTMLElement {
  const close = async () => {
    await ask("DELETE", path);
    return words.closed;
  };
  const form = action(words.closeRoom, [], close, () => words.closeSure(name));
  return make("div", {}, make("h3", {}, words.end), form);
}
