/** The operator's page in a real Chromium: what it shows is what the server says, and it acts. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Page } from "playwright-core";
import { label, parse, quantile, rate, sum, values } from "../pages/admin/metrics.js";
import { shown } from "../pages/admin/figures.js";
import { admin, viewer } from "./admin_page.js";
import { check, Server, sleep, until, WITH_USERS } from "./server.js";

test("metrics are read as they stand, and rates begin anew after a restart", () => {
  const text = [
    "# HELP a b",
    "# TYPE uproar_x_total counter",
    'uproar_x_total{shard="0",what="a\\"b"} 5',
    'uproar_x_total{shard="1",what="c"} 7',
    "uproar_x_total_more 100",
    "",
  ].join("\n");
  const scrape = parse(text);
  assert.equal(sum(scrape, "uproar_x_total"), 12);
  assert.equal(sum(scrape, "uproar_x_total", { shard: "1" }), 7);
  assert.deepEqual(values(scrape, "uproar_x_total", "shard"), ["0", "1"]);
  assert.equal(label('uproar_x_total{shard="0",what="a"}', "hard"), undefined);
  const at = (at_ms: number, value: number) => ({ at_ms, scrape: new Map([["n", value]]) });
  assert.equal(rate(at(0, 10), at(2_000, 30), "n"), 10);
  assert.equal(rate(at(0, 10), at(2_000, 4), "n"), 2);
  const buckets = (at_ms: number, low: number, all: number) => ({
    at_ms,
    scrape: new Map([
      ['h_bucket{le="0.5"}', low],
      ['h_bucket{le="2"}', all],
      ['h_bucket{le="+Inf"}', all],
    ]),
  });
  assert.equal(quantile(buckets(0, 0, 0), buckets(1, 90, 100), "h", 0.5), 0.5);
  assert.equal(quantile(buckets(0, 0, 0), buckets(1, 90, 100), "h", 0.99), 2);
  assert.equal(quantile(buckets(0, 1, 1), buckets(1, 1, 1), "h", 0.5), undefined);
  assert.deepEqual(
    [shown(1536, "bytes"), shown(12345, ""), shown(0.25, "ms")],
    ["1.5 KiB", "12,345", "0.3 ms"],
  );
});

check("nothing is shown before the password, and nothing after the log-out", async () => {
  const server = await Server.start(WITH_USERS);
  assert.equal((await fetch(`${server.http}/v1/rooms`)).status, 401);
  const page = await admin(server);
  await page.waitForSelector("#tiles b");
  assert.equal(await page.evaluate(async () => (await fetch("/v1/rooms")).status), 200);
  await page.click("#log-out");
  await page.waitForSelector("#log-in[open]");
  assert.equal(await page.evaluate(async () => (await fetch("/v1/rooms")).status), 401);
  await page.fill("#log-in [name=password]", "a guess");
  await page.press("#log-in [name=password]", "Enter");
  await page.waitForFunction(() => document.querySelector(".wrong")!.textContent !== "");
});

check("every number of the overview is that of /metrics", async () => {
  const server = await Server.start();
  const viewers = ["a", "a", "b"].map((name) => viewer(server, name));
  const all = () => viewers.every((live, place) => live.room(["a", "a", "b"][place]).joined);
  await until("all are in", all);
  const page = await admin(server);
  await page.waitForFunction(
    () => document.querySelector<HTMLElement>('[data-key="uproar_members"]')?.dataset.value === "3",
  );
  // Asked again until it stands still: the page looks every two seconds, and memory grows at first.
  for (const end = Date.now() + 30_000; ; await sleep(100)) {
    const wrong = await differing(server, page);
    if (wrong.length === 0) break;
    assert.ok(Date.now() < end, wrong.join("; "));
  }
  // Every chart has lines: the metrics are called as it thinks.
  await page.waitForFunction(() => {
    const charts = [...document.querySelectorAll("figure")];
    return charts.length === 9 && charts.every((one) => one.querySelector("li"));
  });
});

/** Tiles of the overview that say something else than /metrics does. */
async function differing(server: Server, page: Page): Promise<string[]> {
  const text = await (await fetch(`${server.http}/metrics`)).text();
  const tiles = await page.$$eval("#tiles b", (all) =>
    all.map((tile) => [tile.dataset.key!, Number(tile.dataset.value), tile.textContent!] as const),
  );
  assert.ok(tiles.length >= 8);
  return tiles.flatMap(([key, value, seen]) => {
    assert.equal(seen, shown(value, key.endsWith("_bytes") ? "bytes" : ""));
    const lines = text.split("\n").filter((line) => line.match(`^${key}({|\\s)`));
    assert.ok(lines.length > 0, `/metrics has no ${key}`);
    const now = lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
    // Memory moves by itself; everything else stands still here.
    const off_max = key === "process_resident_memory_bytes" ? now / 4 : 0;
    return Math.abs(value - now) <= off_max ? [] : [`${key}: ${value} is seen, ${now} it is`];
  });
}

check("rooms come with the busiest first, and one is acted on", async () => {
  const server = await Server.start();
  const [ann, ...others] = ["loud", "loud", "calm"].map((name) => viewer(server, name));
  await until("all are in", () => ann.room("loud").joined && others[1].room("calm").joined);
  const page = await admin(server, "#rooms");
  await page.waitForFunction(() => document.querySelectorAll("#room-rows tr").length === 2);
  await page.waitForFunction(
    () => document.querySelector("#room-rows td.number")!.textContent === "2",
  );
  const names = await page.$$eval("#room-rows a", (all) => all.map((one) => one.textContent));
  assert.deepEqual(names, ["loud", "calm"]);
  await page.click("#room-rows a");
  await page.waitForSelector("#room h2");

  const heard: string[] = [];
  ann.room("loud").on("message", ({ class: of, text }) => heard.push(`${of} ${text}`));
  await page.fill("#room [name=text]", "five minutes left");
  await page.click("#room button:text-is('Publish')");
  await until("it is heard", () => heard[0] === "system five minutes left");

  await page.fill("#room [name=slow_mode_s]", "30");
  await page.click("#room button:text-is('Set')");
  await page.waitForSelector("#room output.done:text-is('set')");
  await page.fill("#room [name=attributes]", "title=The last song\nhost = ann=1");
  await page.click("#room button:text-is('Replace attributes')");
  const set = async () => (await server.ask("GET", "/v1/rooms/loud")).settings.attributes;
  await until("they are replaced", async () => (await set()).title !== undefined);
  // Who comes now is told all of it.
  const late = viewer(server, "loud").room("loud");
  let attributes: Record<string, string> = {};
  let slow = 0;
  late.on("joined", (joined) => {
    attributes = joined.attributes;
    slow = joined.slow_mode_s;
  });
  await until("it is in", () => late.joined);
  assert.deepEqual(attributes, { title: "The last song", host: "ann=1" });
  assert.equal(slow, 30);

  const me = ann.state.is === "online" ? ann.state.welcome.user : "";
  await page.locator("#room form", { hasText: "Mute" }).locator("[name=user]").fill(me);
  await page.click("#room button:text-is('Mute')");
  await page.waitForSelector("#room output.done:has-text('silent')");
  assert.equal((await ann.room("loud").publish("hm")).code, 2013);
  let left = 0;
  ann.room("loud").on("left", ({ code }) => (left = code));
  await page.locator("#room form", { hasText: "Remove and ban" }).locator("[name=user]").fill(me);
  await page.click("#room button:text-is('Remove and ban')");
  await until("it is out", () => left > 0);
  await page.click("#room button:text-is('Close this room')");
  await until("the others are told", () => !others[0].room("loud").joined);
});

check("a user is looked up, and its log-ins end", async () => {
  const server = await Server.start(`${WITH_USERS}[accounts]\nregistration_open = true\n`);
  await server.ask("POST", "/v1/accounts", { user: "ann", password: "a password of ann" });
  const login = { user: "ann", password: "a password of ann", device: "phone" };
  await server.ask("POST", "/v1/sessions", login);
  const page = await admin(server, "#users");
  await page.fill("#find-user input", "ann");
  await page.press("#find-user input", "Enter");
  await page.waitForSelector("#user h3:text-is('1 log-ins')");
  await page.click("#user button:text-is('End all log-ins')");
  await page.waitForSelector("#user h3:text-is('0 log-ins')");
  await page.click("#user button:text-is('Ban')");
  await page.waitForFunction(() =>
    document.querySelector("#user table")!.textContent!.includes("ban"),
  );
  await assert.rejects(server.ask("POST", "/v1/sessions", login), /403/);
  await page.fill("#find-user input", "nobody");
  await page.press("#find-user input", "Enter");
  await page.waitForSelector("#trouble:has-text('no user of this name')");
});

check("quality is a map of CDN by ISP, the hotter the worse; alarms are told", async () => {
  const server = await Server.start("[quality]\nalarm_samples_min = 2\n");
  const report = (sid: string, cdn: string, stall_ms: number) => ({
    ...{ sid, cdn, isp: "north", batch: 1, age_ms: 1_000, side: "play", platform: "web" },
    totals: { attempts: 1, played_ms: 1_000 - stall_ms, stalls: 1, stall_ms },
    starts: [{ msd: 420 }],
  });
  const sessions = [1, 2, 3].flatMap((n) => [
    report(`session-a-${n}`, "alpha", 0),
    report(`session-b-${n}`, "beta", 200),
  ]);
  await sleep(1_200); // what began before the server did is counted from its first report on
  const body = JSON.stringify({ reports: sessions });
  const headers = { "content-type": "application/json" };
  await fetch(`${server.http}/v1/quality/reports`, { method: "POST", headers, body });
  const page = await admin(server, "#quality");
  await page.waitForSelector("#quality td");
  const rows = await page.$$eval("#quality tbody tr", (all) =>
    all.map((row) => [row.querySelector("th")!.textContent, row.querySelector("td")!.textContent]),
  );
  assert.deepEqual(rows, [
    ["alpha", "0.0 %"],
    ["beta", "20.0 %"],
  ]);
  const heat = await page.$$eval("#quality td", (all) =>
    all.map((one) => one.style.getPropertyValue("--heat")),
  );
  assert.deepEqual(heat, ["0%", "100%"]);
  await page.waitForSelector("#quality .raised:has-text('stall_ratio at cdn beta, isp north')");
  await page.selectOption("#quality [name=metric]", { label: "first frame, ms (95 % are below)" });
  await page.waitForFunction(() =>
    /^4\d\d ms$/.test(document.querySelector("#quality td")!.textContent!),
  );
});

check("the drain button ends the node as a signal does", async () => {
  const server = await Server.start("[engine]\ndrain_spread_ms = 100\n");
  const live = viewer(server, "a");
  await until("it is in", () => live.room("a").joined);
  const page = await admin(server);
  await page.click("#drain");
  await until("its clients go elsewhere", () => live.state.is === "waiting");
  live.close();
  await server.ended();
});
