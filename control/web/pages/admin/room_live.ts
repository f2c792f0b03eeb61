/** What an operator does with what a room shows: recall, pin, polls. */

import { ask } from "./api.js";
import { linesOf } from "./room_settings.js";
import { action, field, make } from "../elements.js";

interface Poll {
  poll: number;
  question: string;
  options: { text: string; votes: number }[];
  refused: number;
  ends_ms: number;
  over: boolean;
}

export function recalls(path: string): HTMLElement[] {
  const recall = async (body: object) => {
    const { seqs } = (await ask("POST", `${path}/recall`, body)) as { seqs: number[] };
    return `${seqs.length} messages recalled`;
  };
  const bySeq = action("Recall these", [field("seqs", "seqs", { required: true })], (given) => {
    const words = `${given.get("seqs")}`.split(/[\s,]+/).filter((word) => word !== "");
    const wrong = words.find((word) => !/^\d+$/.test(word));
    if (wrong !== undefined) throw new Error(`"${wrong}" is not a seq`);
    return recall({ seqs: words.map(Number) });
  });
  const byUser = action("Recall all of", [field("user", "user", { required: true })], (given) =>
    recall({ user: given.get("user") }),
  );
  return [make("h3", {}, "Recall"), bySeq, byUser];
}

export function pins(path: string): HTMLElement[] {
  const pin = async (body: object) => {
    await ask("PUT", `${path}/pin`, body);
    return "pinned";
  };
  const seq = field("seq", "seq", { type: "number", min: "1", required: true });
  const bySeq = action("Pin a message", [seq], (given) => pin({ seq: Number(given.get("seq")) }));
  const fields = [
    field("as", "user", { value: "host", required: true }),
    field("text", "text", { required: true }),
  ];
  const byText = action("Pin a text", fields, (given) => pin(Object.fromEntries(given)));
  const unpin = action("Unpin", [], async () => {
    await ask("DELETE", `${path}/pin`);
    return "nothing is pinned";
  });
  return [make("h3", {}, "Pinned message"), bySeq, byText, unpin];
}

/** Polls, and how those that are seen stand: anew with each call of `look`. */
export function polls(path: string): { elements: HTMLElement[]; look: () => Promise<void> } {
  const list = make("div", { className: "polls" });
  const seen = new Map<number, { poll: Poll; place: HTMLElement }>();
  const show = (poll: Poll) => {
    const one = seen.get(poll.poll) ?? { poll, place: make("div") };
    if (!one.place.isConnected) list.prepend(one.place);
    const wasOver = one.place.childElementCount > 0 && one.poll.over;
    one.poll = poll;
    seen.set(poll.poll, one);
    if (!wasOver) one.place.replaceChildren(table(poll), ...ending(poll));
  };
  const ending = ({ poll, over }: Poll) =>
    over
      ? []
      : [
          action("End this poll", [], async () => {
            show(await ask("DELETE", `${path}/polls/${poll}`));
            return "";
          }),
        ];
  const options = make("textarea", { name: "options", rows: 3, required: true });
  const fields = [
    field("question", "question", { required: true }),
    make("label", {}, "answers, one a line ", options),
    field("seconds", "duration_s", { type: "number", min: "1", value: "60", required: true }),
  ];
  const open = action("Open a poll", fields, async (given) => {
    const poll = await ask("POST", `${path}/polls`, {
      question: given.get("question"),
      options: linesOf(given.get("options")),
      duration_s: Number(given.get("duration_s")),
    });
    show(poll);
    return `poll ${poll.poll} is open`;
  });
  const number = field("number", "poll", { type: "number", min: "1", required: true });
  const find = action("Show a poll", [number], async (given) => {
    show(await ask("GET", `${path}/polls/${Number(given.get("poll"))}`));
    return "";
  });
  const look = async () => {
    const running = [...seen.values()].filter(({ poll }) => !poll.over);
    await Promise.all(
      running.map(async ({ poll, place }) => {
        const now = (await ask("GET", `${path}/polls/${poll.poll}`)) as Poll;
        // In place: a button that is about to be pressed stays.
        place.firstElementChild!.replaceWith(table(now));
        if (now.over) show(now);
      }),
    );
  };
  return { elements: [make("h3", {}, "Polls"), open, find, list], look };
}

function table({ poll, question, options, refused, ends_ms, over }: Poll): HTMLElement {
  const state = over ? "over" : `until ${new Date(ends_ms).toLocaleTimeString("sv")}`;
  const title = `${poll}: ${question} (${state}, ${refused} refused)`;
  const rows = options.map(({ text, votes }) =>
    make(
      "tr",
      {},
      make("td", {}, text),
      make("td", { className: "number" }, votes.toLocaleString("en")),
    ),
  );
  const body = make("tbody", {}, ...rows);
  return make("table", { className: "facts" }, make("caption", {}, title), body);
}
