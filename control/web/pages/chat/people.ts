/** Friends and requests in a panel: who asks, who was asked, who may be written to. */

import { Account, RelationState } from "../../sdk/index.js";
import { make } from "../elements.js";
import { words } from "./words.js";

/** What others are to the user, by name; as the SDK tells it. */
export class People {
  private readonly states = new Map<string, RelationState>();

  related(state: RelationState): void {
    this.states.set(state.user, state);
  }

  forget(): void {
    this.states.clear();
  }

  get friends(): string[] {
    return this.those((state) => state.friend);
  }

  get asking(): string[] {
    return this.those((state) => state.asking);
  }

  get asked(): string[] {
    return this.those((state) => state.asked);
  }

  private those(are: (state: RelationState) => boolean): string[] {
    const found = [...this.states.values()].filter(are).map(({ user }) => user);
    return found.sort((a, b) => a.localeCompare(b));
  }
}

/** What a panel may do; `act` says what went wrong, and draws the panel anew. */
export interface PanelHost {
  account: Account;
  people: People;
  act(what: () => Promise<unknown>): Promise<void>;
  write(conversation: string): void;
  close(): void;
}

const path = (kind: string, user: string) => `/v1/${kind}/${encodeURIComponent(user)}`;

/** A person and what can be done about them. */
function person(user: string, ...acts: [string, () => void][]): HTMLElement {
  const buttons = acts.map(([label, act]) => {
    const button = make("button", { type: "button" }, label);
    button.setAttribute("aria-label", `${label}: ${user}`);
    button.onclick = act;
    return button;
  });
  const item = make("li", {}, make("b", {}, user), ...buttons);
  item.dataset.user = user;
  return item;
}

/** A title and a list, where it has entries. */
function part(title: string, items: HTMLElement[]): HTMLElement[] {
  return items.length === 0 ? [] : [make("h3", {}, title), make("ul", {}, ...items)];
}

/** A form of one name. */
function named(label: string, button: string, act: (name: string) => void): HTMLElement {
  const input = make("input", { name: "user", required: true, placeholder: label });
  input.setAttribute("aria-label", label);
  const form = make("form", {}, input, make("button", { type: "submit" }, button));
  form.onsubmit = (event) => {
    event.preventDefault();
    act(input.value.trim());
    form.reset();
  };
  return form;
}

export function drawPeople({ account, people, act, write }: PanelHost): Node[] {
  const ask = (method: string, kind: string, user: string) =>
    void act(() => account.ask(method, path(kind, user)));
  const asking = people.asking.map((user) =>
    person(
      user,
      [words.accept, () => ask("PUT", "friend-requests", user)],
      [words.decline, () => ask("DELETE", "friend-requests", user)],
    ),
  );
  const friends = people.friends.map((user) =>
    person(
      user,
      [words.write, () => write(`user:${user}`)],
      [words.remove, () => ask("DELETE", "friends", user)],
    ),
  );
  const asked = people.asked.map((user) =>
    person(user, [words.remove, () => ask("DELETE", "friends", user)]),
  );
  return [
    make("h2", {}, words.people),
    named(words.addFriend, words.add, (user) => ask("PUT", "friends", user)),
    ...part(words.requests, asking),
    ...part(words.friends, friends),
    ...part(words.asked, asked),
  ];
}

/** A form that makes a group of friends. */
export function drawNewGroup({ account, people, act, write }: PanelHost): Node[] {
  const name = make("input", { name: "name", required: true, placeholder: words.groupName });
  name.setAttribute("aria-label", words.groupName);
  const boxes = people.friends.map((user) => {
    const box = make("input", { type: "checkbox", name: "member", value: user });
    return make("label", {}, box, ` ${user}`);
  });
  const button = make("button", { type: "submit" }, words.make);
  const form = make("form", { className: "tall" }, name, ...boxes, button);
  form.onsubmit = (event) => {
    event.preventDefault();
    const given = new FormData(form);
    const body = { name: name.value.trim(), members: given.getAll("member") };
    void act(async () => {
      const made = (await account.ask("POST", "/v1/groups", body)) as { group: string };
      write(`group:${made.group}`);
    });
  };
  return [make("h2", {}, words.newGroup), form];
}

/** Members of a group; who may be invited; how one leaves. */
export async function drawGroup(host: PanelHost, conversation: string): Promise<Node[]> {
  const { account, people, act, close } = host;
  const group = `/v1/groups/${conversation.slice("group:".length)}`;
  const { members, count } = (await account.ask("GET", `${group}/members?limit=200`)) as {
    members: { user: string; role: string }[];
    count: number;
  };
  const inside = new Set(members.map(({ user }) => user));
  const invite = (user: string) =>
    void act(async () => {
      const entered = (await account.ask("POST", `${group}/members`, { users: [user] })) as {
        refused: { error: { text: string } }[];
      };
      if (entered.refused.length > 0) throw new Error(entered.refused[0].error.text);
    });
  const others = people.friends.filter((user) => !inside.has(user));
  const leave = make("button", { type: "button", className: "leave" }, words.leave);
  leave.onclick = () => {
    if (!confirm(words.sureLeave)) return;
    const own = `${group}/members/${encodeURIComponent(account.user!)}`;
    void act(() => account.ask("DELETE", own).then(close));
  };
  const rows = members.map(({ user, role }) => make("li", {}, make("b", {}, user), ` ${role}`));
  return [
    make("h2", {}, words.members(count)),
    make("ul", {}, ...rows),
    ...part(
      words.invite,
      others.map((user) => person(user, [words.invite, () => invite(user)])),
    ),
    named(words.inviteName, words.invite, invite),
    leave,
  ];
}
