/** The room page tells the server how its video plays: what came to it is what was measured. */

import assert from "node:assert/strict";
import { Page } from "playwright-core";
import { browser, emptyPage } from "./browser.js";
import { hls, host, record } from "./media.js";
import { check, mint, Server, sleep, until, WITH_USERS } from "./server.js";

/** What was reported of a room. */
async function reported(server: Server, cdn: string) {
  const { groups } = await server.ask("GET", "/v1/quality?step=10s&by=room,cdn");
  const at = { room: "lobby", cdn: new URL(cdn).host };
  return groups.find((one: any) => one.cell.room === at.room && one.cell.cdn === at.cdn);
}

/** Until a report says so. */
async function untilReported(server: Server, cdn: string, is: (group: any) => boolean) {
  for (const end = Date.now() + 40_000; ; await sleep(100)) {
    const group = await reported(server, cdn);
    if (group && is(group)) return group;
    if (Date.now() > end) throw new Error(`it was not reported: ${JSON.stringify(group)}`);
  }
}

async function room(page: Page, url: string): Promise<Server> {
  const server = await Server.start(`[pages]\nvideo_url = "${url}"\n`);
  await page.goto(server.http);
  return server;
}

check("a stall is reported while it lasts, and the rest when the page goes", async () => {
  const page = await emptyPage(await browser());
  const cdn = await host(hls(await record(page, 4_000)), { path: "/4.m4s", ms: 7_000 });
  await page.addInitScript(() => (HTMLMediaElement.prototype.canPlayType = () => ""));
  const server = await room(page, `${cdn}/video.m3u8`);
  const stalled = await untilReported(server, cdn, ({ totals }) => totals.stall_ms > 1_900);
  const { totals, metrics } = stalled;
  assert.deepEqual([totals.attempts, totals.start_failures], [1, 0]);
  // It is decoded by a processor, which may be busy: that is one more stall, or a late start.
  assert.ok(totals.stalls >= 1);
  assert.ok(totals.played_ms > 500 && totals.played_ms < 4_500, `${totals.played_ms} ms played`);
  assert.ok(totals.frames > 0, `${totals.frames} frames`);
  assert.ok(metrics.msd.count === 1 && metrics.msd.p50 < 10_000, JSON.stringify(metrics.msd));
  await until("it came over the connection of the room", async () => {
    return (await server.metric("uproar_report_frames_total")) > 0;
  });
  // It goes on, and what is new is told when the page goes.
  await page.waitForFunction(
    (known) => document.querySelector("video")!.currentTime > known,
    (totals.played_ms + 1_000) / 1_000,
  );
  await page.goto("about:blank");
  const more = totals.played_ms + 500;
  const last = await untilReported(server, cdn, ({ totals }) => totals.played_ms > more);
  const { stall } = last.metrics;
  assert.ok(last.totals.stalls >= 1);
  assert.equal(stall.count, last.totals.stalls, "each is measured once");
  const sum_ms = stall.mean * stall.count;
  const off_ms = Math.abs(sum_ms - last.totals.stall_ms);
  assert.ok(off_ms < 200 * stall.count, `${sum_ms} ms in stalls, ${last.totals.stall_ms} in all`);
});

check("a start that fails is reported at once, once, whatever ways were tried", async () => {
  const page = await emptyPage(await browser());
  const cdn = "http://127.0.0.1:1";
  const server = await room(page, `${cdn}/none.m3u8`);
  const { totals } = await untilReported(server, cdn, ({ totals }) => totals.start_failures > 0);
  assert.deepEqual([totals.attempts, totals.start_failures, totals.played_ms], [1, 1, 0]);
});

check("a page of another site reports, and its last report comes when the page goes", async () => {
  const page = await emptyPage(await browser());
  const server = await Server.start(WITH_USERS);
  const site = await host([["/page", Buffer.from("")]]);
  await page.goto(`${site}/page`);
  assert.notEqual(new URL(site).origin, new URL(server.http).origin);
  await page.evaluate(
    async ([base, token]) => {
      const { Quality } = await import(`${base}/sdk/uproar.js`);
      const session = () => new Quality({ room: "stage", cdn: "far", base, token: () => token });
      const [quality, closed] = [session(), session()];
      quality.add("stalls", 2);
      await quality.report();
      quality.add("stalls", 3);
      // One that ends before the page does, and has not told anything yet.
      closed.add("stalls", 7);
      closed.close();
    },
    [server.http, await mint(server, "ann")],
  );
  const stalls = async () => {
    const { groups } = await server.ask("GET", "/v1/quality?step=10s&by=cdn");
    return groups.find((one: any) => one.cell.cdn === "far")?.totals.stalls;
  };
  const told = async (many: number) => {
    await until(`${many} stalls are told`, async () => (await stalls()) === many);
  };
  await told(9);
  await page.goto("about:blank");
  await told(12);
  // What was told twice would be told by now.
  await sleep(500);
  assert.equal(await stalls(), 12);
  assert.equal(await server.metric("uproar_quality_reports_total"), 3);
});
