/** Danmaku replay: what was said is shown again at its moments, and few requests do it. */

import assert from "node:assert/strict";
import { Page } from "playwright-core";
import { parse, sum, values } from "../pages/admin/metrics.js";
import { Replay } from "../sdk/index.js";
import { browser, emptyPage } from "./browser.js";
import { client } from "./client.js";
import { check, Server, sleep, until, WITH_USERS } from "./server.js";

const kept = (segment_s: number) =>
  `[danmaku]\nenabled = true\nsegment_s = ${segment_s}\n` +
  "[engine.rooms.defaults]\nuser_rate_per_s = 50\n";
const COUNTED = "uproar_http_requests_total";
/** Lines may be shown so long from their moments, in time of the replay. */
const NEAR_MS = 100;
/** A frame that is as short as this, in time of the replay, is one of a machine that keeps up. */
const PROMPT_MS = 80;
/** No request for so long: there will be none. */
const STILL_MS = 700;

interface Line {
  seq: number;
  time_ms: number;
  text?: string;
}

/** Says lines in a room for a while; what was heard of them, and when. */
async function record(server: Server, name: string, lines: number, every_ms: number) {
  const live = client({ url: server.url });
  const room = live.room(name);
  const heard: Line[] = [];
  room.on("message", ({ seq, time_ms, text }) => heard.push({ seq, time_ms, text }));
  await until("it is in", () => room.joined);
  for (let n = 0; n < lines; n += 1) {
    void room.publish(`line ${n}`);
    await sleep(every_ms);
  }
  await until("all is heard", () => heard.length === lines);
  await until("all is kept", async () => {
    const segments = await segmentsOf(server, name);
    return segments.reduce((sum, one) => sum + one.lines, 0) === lines;
  });
  const replay = new Replay({ room: name }, server.http);
  await replay.open();
  return { heard, replay };
}

/** What is recorded of a room by now. */
async function segmentsOf(server: Server, name: string) {
  const { recordings } = await server.ask("GET", `/v1/rooms/${name}/danmaku`);
  return (recordings[0]?.segments ?? []) as { lines: number; open: boolean }[];
}

type One = { seq: number; offset_ms: number; at_ms: number; frame_ms: number };
type Told = One[];
const late_ms = ({ at_ms, offset_ms }: One) => at_ms - offset_ms;
/** A machine that is busy draws few frames; a line is in the first one it can be in. */
const lateMax_ms = ({ frame_ms }: One) => NEAR_MS + frame_ms;
const told = (page: Page): Promise<Told> => page.evaluate(() => (globalThis as any).figures().told);

/** Sets a control as a person would; `change` tells of it. */
const set = (page: Page, selector: string, value: number) =>
  page.$eval(
    `#controls ${selector}`,
    (element, value) => {
      (element as HTMLInputElement).value = `${value}`;
      element.dispatchEvent(new Event("input"));
      element.dispatchEvent(new Event("change"));
    },
    value,
  );

/** Until the page has drawn so many frames: what a moment brings is shown by the second. */
const frames = (page: Page, many = 4) =>
  page.evaluate(async (many) => {
    for (let n = 0; n < many; n += 1) await new Promise((next) => requestAnimationFrame(next));
  }, many);

const untilTold = (page: Page, seq: number) =>
  page.waitForFunction((seq) => (globalThis as any).figures().told.at(-1)?.seq >= seq, seq);

check("a room's lines come again at their moments, at any speed and after a seek", async () => {
  // As far from the beginning as a recording's first line: it stands at the start of a segment.
  const segment_s = 2;
  const server = await Server.start(kept(segment_s));
  const { heard, replay } = await record(server, "stage", 20, 200);
  const expected = heard.map(({ seq, time_ms }) => [seq, time_ms - replay.start_unix_ms]);
  // Without a page: from the beginning, and of a range.
  while (replay.missing(0, replay.length_ms) !== undefined) {
    await replay.prepare(replay.missing(0, replay.length_ms)!);
  }
  const between = (from_ms: number, to_ms: number) =>
    replay.between(from_ms, to_ms).map(({ seq, offset_ms }) => [seq, offset_ms]);
  assert.deepEqual(between(0, replay.length_ms), expected);
  assert.deepEqual(between(expected[3][1], expected[9][1]), expected.slice(3, 9));
  // A player's clock is no whole number: no line falls between two frames.
  const frames_ms = [0, ...expected.map(([, offset_ms]) => offset_ms + 0.5)];
  const byFrame = frames_ms.flatMap((to_ms, n) =>
    n === 0 ? [] : between(frames_ms[n - 1], to_ms),
  );
  assert.deepEqual(byFrame, expected);

  const page = await emptyPage(await browser());
  await page.goto(`${server.http}/?replay=stage`);
  await page.waitForSelector('body[data-state="replay"]');
  await untilTold(page, heard.at(-1)!.seq);
  const holds = (lines: Told, from_ms: number, behind_ms: (line: One) => number) => {
    const wanted = expected.filter(([, offset_ms]) => offset_ms >= from_ms);
    assert.deepEqual(
      lines.map(({ seq, offset_ms }) => [seq, offset_ms]),
      wanted,
    );
    for (const line of lines) {
      const isIn = late_ms(line) >= 0 && late_ms(line) <= lateMax_ms(line) + behind_ms(line);
      assert.ok(isIn, `line ${line.seq} is ${late_ms(line)} ms late`);
    }
    const prompt = lines.filter(({ frame_ms }) => frame_ms <= PROMPT_MS);
    const far = prompt.filter((line) => late_ms(line) > NEAR_MS);
    assert.ok(far.length <= 0.3 * lines.length, `${far.length} of ${lines.length} are not near`);
  };
  const all = await told(page);
  // What was due before its first segment had come is shown as that one comes.
  const begun_ms = all[0].at_ms;
  const isBefore = ({ offset_ms }: One) => offset_ms < segment_s * 1_000 && offset_ms <= begun_ms;
  holds(all, 0, (line) => (isBefore(line) ? segment_s * 1_000 : 0));
  const shown = await page.$$eval("#lines li", (items) => items.map((item) => item.textContent));
  assert.deepEqual(
    shown.map((text) => text!.replace(/^\S+ /, "")),
    heard.map(({ text }) => text),
  );
  // Again from the middle, twice as fast. It jumps while it is paused: while it plays, how far it
  // has got by the next frame is the machine's.
  const middle = (expected[5][1] + expected[6][1]) / 2;
  await page.click("#controls button");
  await set(page, "select", 2);
  await set(page, "input", middle);
  await frames(page);
  await page.click("#controls button");
  await page.waitForFunction(
    (known) => (globalThis as any).figures().told.length > known,
    all.length,
  );
  await untilTold(page, heard.at(-1)!.seq);
  const again = (await told(page)).slice(all.length);
  // A jump may show what was said a moment before where it arrives.
  const [early, since] = [[], []] as [Told, Told];
  for (const line of again) (line.offset_ms < middle ? early : since).push(line);
  assert.ok(early.every(({ offset_ms }) => offset_ms >= middle - 2 * NEAR_MS));
  holds(since, middle, () => 0);
  // While it is paused nothing goes on.
  await set(page, "input", 2_500);
  await page.click("#controls button");
  await frames(page);
  const before = (await told(page)).length;
  await sleep(1_000);
  assert.equal((await told(page)).length, before);
});

check("a seek costs two requests at most, and none or no body where it was before", async () => {
  const server = await Server.start(kept(2));
  const page = await emptyPage(await browser());
  // Nothing was said yet: the page looks again.
  await page.goto(`${server.http}/?replay=stage`);
  await page.waitForSelector("#note:not(:empty)");
  const { heard, replay } = await record(server, "stage", 12, 300);
  await page.waitForSelector('body[data-state="replay"]');
  // A segment that is closed has another tag than while it was open.
  await until("all are closed", async () => {
    return !(await segmentsOf(server, "stage")).some(({ open }) => open);
  });
  await page.reload();
  await page.waitForSelector('body[data-state="replay"]');
  await page.click("#controls button"); // pause
  // As the server counts them: what the browser tells of a 304 is the body it had.
  const answered = async () => {
    const metrics = parse(await (await fetch(`${server.http}/metrics`)).text());
    const of = "/v1/rooms/{room}/danmaku";
    const routes = values(metrics, COUNTED, "route").filter((route) => route.startsWith(of));
    const [whole, known] = ["200", "304"].map((status) =>
      routes.reduce((all, route) => all + sum(metrics, COUNTED, { route, status }), 0),
    );
    return { whole, known };
  };
  /** What was answered once none has come for a while: each counts where it belongs. */
  const settled = async () => {
    let [all, since_ms] = [await answered(), Date.now()];
    await until("no request comes any more", async () => {
      await sleep(50); // all metrics are long
      const now = await answered();
      if (now.whole !== all.whole || now.known !== all.known) [all, since_ms] = [now, Date.now()];
      return Date.now() > since_ms + STILL_MS;
    });
    return all;
  };
  const seek = async (at_ms: number, before?: { whole: number; known: number }) => {
    before ??= await settled();
    await set(page, "input", at_ms);
    const { whole, known } = await settled();
    return { whole: whole - before.whole, known: known - before.known };
  };
  const offset = (n: number) => heard[n].time_ms - replay.start_unix_ms;
  for (const n of [11, 2, 7]) {
    const { whole, known } = await seek(offset(n));
    assert.ok(whole + known <= 2, `a seek cost ${whole} and ${known} requests`);
  }
  const held = await seek(offset(11));
  assert.deepEqual(held, { whole: 0, known: 0 }, "what is held is not asked for again");
  // Another visit: the browser asks with the tags it has, and gets no body.
  const before = await settled();
  await page.reload();
  await page.waitForSelector('body[data-state="replay"]');
  const { whole, known } = await seek(offset(11), before);
  assert.equal(whole, 0, "no body comes again");
  // For the index, and for the segment of the moment.
  assert.ok(known >= 2, "the browser asked");
});

check(
  "a line is written to a moment of a video, and the next one who watches sees it",
  async () => {
    const server = await Server.start(
      `${WITH_USERS}[danmaku]\nenabled = true\n[accounts]\nregistration_open = true\n`,
    );
    await server.ask("POST", "/v1/accounts", { user: "ann", password: "a password of ann" });
    const chromium = await browser();
    const page = await emptyPage(chromium);
    await page.goto(`${server.http}/?video=film-1`);
    await page.waitForSelector('body[data-state="replay"]');
    await sleep(1_200);
    await page.click("#controls button"); // pause
    await page.fill("#text", "here it comes");
    await page.press("#text", "Enter");
    await page.fill("#sign-in [name=user]", "ann");
    await page.fill("#sign-in [name=password]", "a password of ann");
    await page.press("#sign-in [name=password]", "Enter");
    await page.waitForSelector("#sign-in", { state: "hidden" });
    await page.press("#text", "Enter");
    await page.waitForSelector("#lines .own:not(.pending):has-text('here it comes')");
    assert.deepEqual(await told(page), [], "its own user sees it once");
    const other = await emptyPage(chromium);
    await other.goto(`${server.http}/?video=film-1`);
    await other.waitForFunction(() =>
      document.querySelector("#lines")!.textContent!.includes("here it comes"),
    );
    const [line] = await told(other);
    assert.ok(line.offset_ms > 1_000, `${line.offset_ms} ms`);
    assert.ok(late_ms(line) <= lateMax_ms(line), `it is ${late_ms(line)} ms late`);
  },
);
