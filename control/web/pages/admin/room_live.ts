/** What an operator does with what a room shows: recall, pin, polls. */

import { ask } from "./api.js";
import { linesOf } from "./room_settings.js";
import { action, field, make } from "../elements.js";
import { words } from "./words.js";

interface Poll {
  poll: number;
  question: string;
  options: { text: string; votes: number }[];
  refused: number;
  ends_ms: number;
  over: boolean;
}

/** Takes messages back; tells how many. */
export async function recallIn(path: string, body: object): Promise<string> {
  const { seqs } = (await ask("POST", `${path}/recall`, body)) as { seqs: number[] };
  return words.recalled(seqs.length);
}

/** `choose` puts a user's name into the form that takes one. */
export function recalls(path: string): {
  elements: HTMLElement[];
  choose: (user: string) => void;
} {
  const wordsOf = (given: FormData) =>
    `${given.get("seqs")}`.split(/[\s,]+/).filter((word) => word !== "");
  const bySeq = action(
    words.recallThese,
    [field(words.seqs, "seqs", { required: true })],
    (given) => {
      const wrong = wordsOf(given).find((word) => !/^\d+$/.test(word));
      if (wrong !== undefined) throw new Error(words.noSeq(wrong));
      return recallIn(path, { seqs: wordsOf(given).map(Number) });
    },
    (given) => words.recallTheseSure(wordsOf(given).length),
  );
  const user = field(words.user, "user", { required: true });
  const byUser = action(
    words.recallAllOf,
    [user],
    (given) => recallIn(path, { user: given.get("user") }),
    (given) => words.recallAllOfSure(`${given.get("user")}`),
  );
  const choose = (name: string) => void (user.querySelector("input")!.value = name);
  return { elements: [make("h3", {}, words.recall), bySeq, byUser], choose };
}

export function pins(path: string): HTMLElement[] {
  const pin = async (body: object) => {
    await ask("PUT", `${path}/pin`, body);
    return words.isPinned;
  };
  const seq = field(words.seq, "seq", { type: "number", min: "1", required: true });
  const bySeq = action(words.pinMessage, [seq], (given) => pin({ seq: Number(given.get("seq")) }));
  const fields = [
    field(words.as, "user", { value: "host", required: true }),
    field(words.text, "text", { required: true }),
  ];
  const byText = action(words.pinText, fields, (given) => pin(Object.fromEntries(given)));
  const unpin = action(words.unpin, [], async () => {
    await ask("DELETE", `${path}/pin`);
    return words.nothingPinned;
  });
  return [make("h3", {}, words.pinned), bySeq, byText, unpin];
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
  const ending = ({ poll, question, over }: Poll) =>
    over
      ? []
      : [
          action(
            words.endPoll,
            [],
            async () => {
              show(await ask("DELETE", `${path}/polls/${poll}`));
              return "";
            },
            () => words.endPollSure(question),
          ),
        ];
  const options = make("textarea", { name: "options", rows: 3, required: true });
  const fields = [
    field(words.question, "question", { required: true }),
    make("label", {}, `${words.answers} `, options),
    field(words.seconds, "duration_s", { type: "number", min: "1", value: "60", required: true }),
  ];
  const open = action(words.openPoll, fields, async (given) => {
    const poll = await ask("POST", `${path}/polls`, {
      question: given.get("question"),
      options: linesOf(given.get("options")),
      duration_s: Number(given.get("duration_s")),
    });
    show(poll);
    return words.pollIsOpen(poll.poll);
  });
  const number = field(words.number, "poll", { type: "number", min: "1", required: true });
  const find = action(words.showPoll, [number], async (given) => {
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
  return { elements: [make("h3", {}, words.polls), open, find, list], look };
}

function table({ poll, question, options, refused, ends_ms, over }: Poll): HTMLElement {
  const until = over ? undefined : new Date(ends_ms).toLocaleTimeString("sv");
  const title = words.pollTitle(poll, question, until, refused);
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
