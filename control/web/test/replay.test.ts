/** Danmaku replay: what was said is shown again at its moments, and few requests do it. */

import assert from "node:assert/strict";
import { Page } from "playwright-core";
import { parse, sum, values } from "../pages/admin/metrics.js";
import { Replay } from "../sdk/index.js";
import { browser, emptyPage } from "./browser.js";
import { client } from "./client.js";
import { check, Server, sleep, until, WITH_USERS } from "./server.js";

const KEPT =
  "[danmaku]\nenabled = true\nsegment_s = 2\n[engine.rooms.defaults]\nuser_rate_per_s = 50\n";
const COUNTED = "uproar_http_requests_total";
/** Lines may be shown so long from their moments, in time of the replay. */
const NEAR_MS = 100;

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
  const replay = new Replay({ room: name }, server.http);
  for (let tries = 0; tries < 50; tries += 1) {
    await replay.open().catch(() => {});
    const last = (heard.at(-1)?.time_ms ?? 0) - replay.start_unix_ms;
    if (replay.length_ms > last) break;
    await sleep(100);
  }
  return { heard, replay };
}

type Told = { seq: number; offset_ms: number; at_ms: number; frame_ms: number }[];
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

const untilTold = (page: Page, seq: number) =>
  page.waitForFunction((seq) => (globalThis as any).figures().told.at(-1)?.seq >= seq, seq);

check("a room's lines come again at their moments, at any speed and after a seek", async () => {
  const server = await Server.start(KEPT);
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

  const page = await emptyPage(await browser());
  await page.goto(`${server.http}/?replay=stage`);
  await page.waitForSelector('body[data-state="replay"]');
  await untilTold(page, heard.at(-1)!.seq);
  const holds = (lines: Told, from_ms: number) => {
    const wanted = expected.filter(([, offset_ms]) => offset_ms >= from_ms);
    assert.deepEqual(
      lines.map(({ seq, offset_ms }) => [seq, offset_ms]),
      wanted,
    );
    // A machine that is busy draws few frames; a line is in the first one it can be in.
    for (const { seq, offset_ms, at_ms, frame_ms } of lines) {
      const late_ms = at_ms - offset_ms;
      const may_ms = Math.max(NEAR_MS, frame_ms + 20);
      assert.ok(late_ms >= 0 && late_ms <= may_ms, `line ${seq} is ${late_ms} ms late`);
    }
    const near = lines.filter(({ at_ms, offset_ms }) => at_ms - offset_ms <= NEAR_MS);
    assert.ok(near.length >= 0.7 * lines.length, `${near.length} of ${lines.length} are near`);
  };
  const all = await told(page);
  holds(all, 0);
  const shown = await page.$$eval("#lines li", (items) => items.map((item) => item.textContent));
  assert.deepEqual(
    shown.map((text) => text!.replace(/^\S+ /, "")),
    heard.map(({ text }) => text),
  );
  // Again from the middle, twice as fast.
  const middle = (expected[5][1] + expected[6][1]) / 2;
  await set(page, "select", 2);
  await set(page, "input", middle);
  await page.click("#controls button");
  await page.click("#controls button");
  await page.waitForFunction(
    (known) => (globalThis as any).figures().told.length > known,
    all.length,
  );
  await untilTold(page, heard.at(-1)!.seq);
  holds((await told(page)).slice(all.length), middle);
  // While it is paused nothing goes on.
  await set(page, "input", 2_500);
  await page.click("#controls button");
  const before = (await told(page)).length;
  await sleep(1_000);
  assert.ok((await told(page)).length <= before + 1);
});

check("a seek costs two requests at most, and none or no body where it was before", async () => {
  const server = await Server.start(KEPT);
  const page = await emptyPage(await browser());
  // Nothing was said yet: the page looks again.
  await page.goto(`${server.http}/?replay=stage`);
  await page.waitForSelector("#note:not(:empty)");
  const { heard, replay } = await record(server, "stage", 12, 300);
  await page.waitForSelector('body[data-state="replay"]');
  // A segment that is closed has another tag than while it was open.
  for (let isOpen = true; isOpen; await sleep(200)) {
    const { recordings } = await server.ask("GET", "/v1/rooms/stage/danmaku");
    isOpen = recordings[0].segments.some((one: { open: boolean }) => one.open);
  }
  await page.reload();
  await page.waitForSelector('body[data-state="replay"]');
  await page.click("#controls button"); // pause
  // As the server counts them: what the browser tells of a 304 is the body it had.
  const answered = async (status: number) => {
    const metrics = parse(await (await fetch(`${server.http}/metrics`)).text());
    const of = "/v1/rooms/{room}/danmaku";
    const routes = values(metrics, COUNTED, "route").filter((route) => route.startsWith(of));
    const where = { method: "GET", status: `${status}` };
    return routes.reduce((all, route) => all + sum(metrics, COUNTED, { route, ...where }), 0);
  };
  const seek = async (at_ms: number) => {
    const [whole, known] = [await answered(200), await answered(304)];
    await set(page, "input", at_ms);
    await sleep(700);
    return { whole: (await answered(200)) - whole, known: (await answered(304)) - known };
  };
  const offset = (n: number) => heard[n].time_ms - replay.start_unix_ms;
  for (const n of [11, 2, 7]) {
    const { whole, known } = await seek(offset(n));
    assert.ok(whole + known <= 2, `a seek cost ${whole} and ${known} requests`);
  }
  const held = await seek(offset(11));
  assert.deepEqual(held, { whole: 0, known: 0 }, "what is held is not asked for again");
  // Another visit: the browser asks with the tags it has, and gets no body.
  await page.reload();
  await page.waitForSelector('body[data-state="replay"]');
  assert.deepEqual(await seek(offset(11)), { whole: 0, known: 1 });
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
    assert.ok(line.offset_ms > 1_000 && line.at_ms - line.offset_ms < NEAR_MS);
  },
);
