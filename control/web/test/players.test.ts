/** The room page plays what operators have: MP4, HLS and FLV, each by what can. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Browser } from "playwright-core";
import { waysOf } from "../pages/room/ways.js";
import { browser, emptyPage } from "./browser.js";
import { flv, hls, host, record } from "./media.js";
import { check, Server } from "./server.js";

test("a way to play is chosen by the address, the browser's own first", () => {
  const [all, none] = [() => true, () => false];
  assert.deepEqual(waysOf("https://a.example/x.m3u8?key=1", all), ["native", "hls"]);
  assert.deepEqual(waysOf("/live/x.M3U8", none), ["hls"]);
  assert.deepEqual(waysOf("https://a.example/x.flv", all), ["mpegts"]);
  assert.deepEqual(waysOf("https://a.example/x.ts", all), ["mpegts"]);
  assert.deepEqual(waysOf("https://a.example/x.mp4", none), ["native"]);
});

/** What a room's page plays by, once the video runs; and which players it fetched. */
async function played(chromium: Browser, url: string, hasHls = true) {
  const server = await Server.start(`[pages]\nvideo_url = "${url}"\n`);
  const page = await emptyPage(chromium);
  const fetched: string[] = [];
  page.on("request", (one) => {
    const name = new URL(one.url()).pathname.match(/^\/web\/(hls|mpegts)\.js$/)?.[1];
    if (name) fetched.push(name);
  });
  if (!hasHls) {
    await page.addInitScript(() => (HTMLMediaElement.prototype.canPlayType = () => ""));
  }
  await page.goto(server.http);
  await page.waitForFunction(() => document.querySelector("video")!.currentTime > 0.5);
  const way = await page.evaluate(() => (globalThis as any).figures().way);
  const height = await page.$eval("video", (video: HTMLVideoElement) => video.videoHeight);
  return { way, height, fetched };
}

check(
  "MP4, HLS and FLV are played, by a player that is fetched only where it is needed",
  async () => {
    const chromium = await browser();
    const mp4 = await record(await emptyPage(chromium));
    const cdn = await host([["/video.mp4", mp4], ["/video.flv", flv(mp4)], ...hls(mp4)]);
    const native = { way: "native", height: 180, fetched: [] };
    assert.deepEqual(await played(chromium, `${cdn}/video.mp4`), native);
    const byHls = { way: "hls", height: 180, fetched: ["hls"] };
    assert.deepEqual(await played(chromium, `${cdn}/video.m3u8`, false), byHls);
    const byMpegts = { way: "mpegts", height: 180, fetched: ["mpegts"] };
    assert.deepEqual(await played(chromium, `${cdn}/video.flv`), byMpegts);
    const { way, height } = await played(chromium, `${cdn}/video.m3u8`);
    assert.ok(height === 180 && ["native", "hls"].includes(way), `HLS by ${way}`);
  },
);

check("what no player plays leaves a room with the pattern", async () => {
  const server = await Server.start('[pages]\nvideo_url = "http://127.0.0.1:1/none.flv"\n');
  const page = await emptyPage(await browser());
  await page.goto(server.http);
  await page.waitForSelector("#pattern:not([hidden])");
  await page.waitForSelector('body[data-state="online"]');
});
