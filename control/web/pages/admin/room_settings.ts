/** What a room is set to: every setting it has, and its attributes. */

import { ask } from "./api.js";
import { action, field, make } from "../elements.js";

export interface Settings {
  attributes: Record<string, string>;
  rate_per_s: number;
  user_rate_per_s: number;
  slow_mode_s: number;
  payload_bytes_max: number;
  viewers_max: number;
  guests_publish: boolean;
  filter: boolean;
  mute_all: boolean;
  allowed: string[];
  unique_s: number;
  delay_ms: number;
  enter_events: boolean;
  before_publish: string;
  followers_only_s: number | null;
}

const NUMBERS = [
  ["messages a second", "rate_per_s"],
  ["of one user", "user_rate_per_s"],
  ["slow mode, seconds", "slow_mode_s"],
  ["the same text again after, seconds", "unique_s"],
  ["viewers see it later by, ms", "delay_ms"],
  ["bytes of a message", "payload_bytes_max"],
  ["viewers, 0: no bound", "viewers_max"],
] as const;

const SWITCHES = [
  ["guests may publish", "guests_publish"],
  ["text is filtered", "filter"],
  ["nobody may speak but those below", "mute_all"],
  ["members are told who comes in", "enter_events"],
] as const;

/** What holds where the platform has not decided about a message in time. */
const BEFORE = [
  ["off", "nobody is asked"],
  ["open", "asked; without an answer it passes"],
  ["closed", "asked; without an answer it is refused"],
] as const;

export function settings(path: string, now: Settings): HTMLElement {
  const fields = NUMBERS.map(([label, name]) =>
    field(label, name, { type: "number", min: "0", required: true, value: `${now[name]}` }),
  );
  for (const [label, name] of SWITCHES) {
    fields.push(field(label, name, { type: "checkbox", checked: now[name] }));
  }
  const followers = { type: "number", min: "0", value: `${now.followers_only_s ?? ""}` };
  fields.push(field("for followers since, seconds; empty: all", "followers_only_s", followers));
  const allowed = make("textarea", { name: "allowed", rows: 2, value: now.allowed.join("\n") });
  fields.push(make("label", {}, "who may always speak, a name a line ", allowed));
  const before = BEFORE.map(([value, label]) =>
    make("option", { value, selected: value === now.before_publish }, label),
  );
  const asks = make("select", { name: "before_publish" }, ...before);
  fields.push(make("label", {}, "the platform, before a message is shown ", asks));
  let known = now;
  const form = action("Set", fields, async (given) => {
    const changed = differences(known, given);
    if (Object.keys(changed).length === 0) return "nothing was changed";
    // Only what was changed here: another operator may have changed the rest meanwhile.
    known = (await ask("PATCH", path, changed)).settings;
    return "set";
  });
  return make("div", {}, make("h3", {}, "Settings"), form);
}

/** What a form says that is not so. */
function differences(known: Settings, given: FormData): Partial<Settings> {
  const changed: Partial<Settings> = {};
  for (const [, name] of NUMBERS) {
    const number = Number(given.get(name));
    if (number !== known[name]) changed[name] = number;
  }
  for (const [, name] of SWITCHES) {
    const is = given.get(name) !== null;
    if (is !== known[name]) changed[name] = is;
  }
  const before = `${given.get("before_publish")}`;
  if (before !== known.before_publish) changed.before_publish = before;
  const since = given.get("followers_only_s");
  const followers = since === "" || since === null ? null : Number(since);
  if (followers !== known.followers_only_s) changed.followers_only_s = followers;
  const allowed = linesOf(given.get("allowed"));
  if (allowed.slice().sort().join("\n") !== known.allowed.slice().sort().join("\n")) {
    changed.allowed = allowed;
  }
  return changed;
}

/** The lines of a text that say something. */
export function linesOf(text: FormDataEntryValue | null): string[] {
  const lines = `${text ?? ""}`.split("\n").map((line) => line.trim());
  return lines.filter((line) => line !== "");
}

export function attributes(path: string, now: Settings): HTMLElement {
  const text = Object.entries(now.attributes)
    .map(([key, value]) => `${key}=${value}`)
    .join("\n");
  const area = make("textarea", { name: "attributes", value: text, rows: 4 });
  area.setAttribute("aria-label", "Attributes, each as key=value on a line of its own");
  const form = action("Replace attributes", [area], async (given) => {
    const pairs = linesOf(given.get("attributes")).map((line) => {
      const at = line.indexOf("=");
      if (at < 1) throw new Error(`"${line}" is not key=value`);
      return [line.slice(0, at).trim(), line.slice(at + 1).trim()];
    });
    await ask("PATCH", path, { attributes: Object.fromEntries(pairs) });
    return "set, and told to members";
  });
  return make("div", {}, make("h3", {}, "Attributes"), form);
}
