/** What a room tells beside its messages, as the room page shows it: a real Chromium and server. */

import assert from "node:assert/strict";
import { Page } from "playwright-core";
import { browser } from "./browser.js";
import { isIn, lines, other, say, visit } from "./room_page.js";
import { check, mint, Server, sleep, until, WITH_USERS } from "./server.js";

const ROOM = "/v1/rooms/lobby";
/** Users and guests, and with them a store. */
const WITH_BOTH = `${WITH_USERS}guests = true\n`;

/** Waits until the list has exactly these texts, without who said them. */
async function shows(page: Page, texts: string[]): Promise<void> {
  await page.waitForFunction((texts) => {
    const items = [...document.querySelectorAll("#lines li:not(.note)")];
    const seen = items.map((item) => item.textContent!.replace(/^\S+ /, ""));
    return JSON.stringify(seen) === JSON.stringify(texts);
  }, texts);
}

/** Pixels of the bullet comments that are drawn. */
const drawn = (page: Page) =>
  page.evaluate(() => {
    const canvas = document.querySelector<HTMLCanvasElement>("#danmaku")!;
    const { data } = canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height);
    return data.reduce((sum, value) => sum + (value > 0 ? 1 : 0), 0);
  });

check("what is recalled leaves the list, the gifts and the bullet comments", async () => {
  const server = await Server.start();
  const page = await visit(await browser(), server.http);
  await isIn(page);
  await say(page, "one's own");
  await page.waitForSelector("#lines .own:not(.pending)");
  const { room } = other(server);
  await until("the other one is in", () => room.joined);
  const { seq } = await room.publish("of another");
  await until("they fly", async () => (await drawn(page)) > 0);
  const give = (user: string) =>
    server.ask("POST", `${ROOM}/publish`, { user, class: "gift", text: "a rocket" });
  const gifts = [await give("ann"), await give("ann"), await give("bob")];
  await page.waitForSelector('#gifts li[data-count="×2"]');
  await shows(page, ["one's own", "of another", "a rocket", "a rocket", "a rocket"]);
  await server.ask("POST", `${ROOM}/recall`, { seqs: [gifts[0].seq, gifts[2].seq] });
  await page.waitForFunction(() => {
    const [banner, ...others] = document.querySelectorAll<HTMLElement>("#gifts li");
    const isOne = banner?.textContent === "ann a rocket" && banner.dataset.count === undefined;
    return isOne && others.length === 0;
  });
  await shows(page, ["one's own", "of another", "a rocket"]);
  // All of them at once: by the next frame there is nothing of them.
  await page.evaluate(() => {
    const live = globalThis as any;
    live.room.on("recalled", () =>
      requestAnimationFrame(() => {
        live.flyingThen = live.figures().flying;
        live.linesThen = document.querySelectorAll("#lines li").length;
      }),
    );
  });
  await server.ask("POST", `${ROOM}/recall`, { seqs: [seq - 1, seq, gifts[1].seq] });
  await page.waitForFunction(() => (globalThis as any).flyingThen !== undefined);
  assert.deepEqual(await page.evaluate("[flyingThen, linesThen]"), [0, 0]);
  assert.equal(await drawn(page), 0);
  assert.equal(await page.$("#gifts li"), null);
});

check("the pinned message is short until it is looked at, and goes", async () => {
  const server = await Server.start();
  const page = await visit(await browser(), server.http);
  await isIn(page);
  const { room } = other(server);
  await until("the other one is in", () => room.joined);
  const text = "the show begins at nine ".repeat(30);
  await server.ask("PUT", `${ROOM}/pin`, { user: "host", text });
  await page.waitForSelector("#pinned:not([hidden])");
  const height = () => page.$eval("#pinned", (element) => element.clientHeight);
  const hidden = () => page.$eval("#pinned", (one) => one.scrollHeight - one.clientHeight);
  assert.ok((await height()) < 80, `${await height()} pixels`);
  assert.ok((await hidden()) > 0, "it is cut");
  await page.click("#pinned");
  assert.ok((await height()) > 100, `${await height()} pixels`);
  assert.ok((await height()) < 720 / 2, "and leaves the chat its place");
  await page.click("#pinned");
  assert.ok((await height()) < 80);
  // By keyboard the focus is enough.
  await page.click("#text");
  await page.keyboard.press("Shift+Tab"); // the list
  await page.keyboard.press("Shift+Tab");
  assert.equal(await page.evaluate(() => document.activeElement!.id), "pinned");
  assert.ok((await height()) > 100, `${await height()} pixels`);
  // Who comes later sees it too.
  const late = await visit(await browser(), server.http);
  await late.waitForSelector("#pinned:not([hidden])");
  await server.ask("DELETE", `${ROOM}/pin`);
  await page.waitForSelector("#pinned", { state: "hidden" });
});

check("a poll is answered once, by keyboard, and its result stands at the end", async () => {
  const server = await Server.start();
  const chromium = await browser();
  const [ann, bob] = [await visit(chromium, server.http), await visit(chromium, server.http)];
  await Promise.all([isIn(ann), isIn(bob)]);
  const open = (question: string) =>
    server.ask("POST", `${ROOM}/polls`, { question, options: ["red", "blue"], duration_s: 60 });
  const { poll } = await open("who wins?");
  await ann.waitForSelector(".poll p:text-is('who wins?')");
  await ann.focus(".poll [aria-pressed]:has-text('blue')");
  await ann.keyboard.press("Enter");
  await bob.click(".poll [aria-pressed]:has-text('blue')");
  await ann.waitForSelector(".poll small:has-text('2 answers')");
  assert.equal(
    await ann.evaluate(() => document.activeElement!.querySelector("span")?.textContent),
    "blue",
    "the focus stays",
  );
  // Another answer is not given.
  await ann.click(".poll [aria-pressed]:has-text('red')", { force: true });
  await sleep(1_500);
  const stands = (page: Page) =>
    page.$$eval(".poll [aria-pressed]", (all) =>
      all.map((one) => [
        one.textContent,
        one.getAttribute("aria-pressed"),
        (one as HTMLElement).style.getPropertyValue("--share"),
      ]),
    );
  assert.deepEqual(await stands(ann), [
    ["red0", "false", "0%"],
    ["blue2", "true", "100%"],
  ]);
  await server.ask("DELETE", `${ROOM}/polls/${poll}`);
  await ann.waitForSelector(".poll.over small:has-text('The result, 2 answers')");
  await ann.waitForSelector(".poll .most:has-text('blue')");
  // No more than four, those that are over go first; and a result is closed.
  for (const question of ["a?", "b?", "c?"]) await open(question);
  await ann.waitForSelector(".poll p:text-is('c?')");
  await ann.waitForSelector(".poll.over");
  await open("d?");
  await ann.waitForSelector(".poll p:text-is('d?')");
  assert.equal((await ann.$$(".poll")).length, 4);
  assert.equal(await ann.$(".poll.over"), null);
});

check("a title is shown as it is set, an announcement until it is closed", async () => {
  const server = await Server.start();
  const page = await visit(await browser(), server.http);
  await isIn(page);
  assert.equal(await page.textContent("#title"), "lobby");
  await server.ask("PATCH", `${ROOM}/attributes`, { set: { title: "The <b>last</b> song" } });
  await page.waitForFunction(() => document.title === "The <b>last</b> song · uproar");
  assert.equal(await page.textContent("#title"), "The <b>last</b> song");
  await server.ask("PATCH", `${ROOM}/attributes`, { remove: ["title"] });
  await page.waitForFunction(() => document.querySelector("#title")!.textContent === "lobby");
  await server.ask("POST", "/v1/broadcast", { user: "uproar", text: "back at nine" });
  await page.waitForSelector("#announced:has-text('back at nine')");
  await page.click("#announced button");
  await page.waitForSelector("#announced", { state: "hidden" });
});

check("who comes in is one line, however many come", async () => {
  const server = await Server.start(WITH_BOTH);
  const page = await visit(await browser(), server.http);
  await isIn(page);
  await server.ask("PATCH", ROOM, { enter_events: true });
  const come = async (user: string) => other(server, "lobby", await mint(server, user));
  await come("ann");
  await page.waitForSelector("#entered:text-is('ann came in')");
  for (const user of ["bob", "cat", "dan", "eve"]) await come(user);
  await page.waitForFunction(() => {
    const told = document.querySelector("#entered")!.textContent!;
    return told.endsWith(" came in") && !told.includes("ann");
  });
  assert.equal((await page.$$("#lines li")).length, 0, "none piles up in the chat");
  await page.waitForSelector("#entered:text-is('')", { state: "attached" });
});

check("what a room refuses is said in words, in both languages", async () => {
  const server = await Server.start(WITH_BOTH);
  const chromium = await browser();
  const english = await visit(chromium, server.http);
  const chinese = await visit(chromium, server.http, { locale: "zh-CN" });
  const pages = [english, chinese];
  await Promise.all(pages.map(isIn));
  const notes = async (texts: string[]) => {
    await Promise.all(
      pages.map((page, place) =>
        page.waitForFunction(
          (text) => document.querySelector("#note")!.textContent!.startsWith(text),
          texts[place],
        ),
      ),
    );
  };
  await server.ask("PATCH", ROOM, { unique_s: 30 });
  await other(server).room.publish("the same");
  for (const page of pages) await say(page, "the same");
  await notes(["The room has just heard this", "刚刚有人说过同样的话"]);
  await server.ask("PATCH", ROOM, { unique_s: 0 });
  const list = () => server.metric("uproar_filter_version");
  const before = await list();
  await server.ask("PATCH", "/v1/filter", { add_words: ["badword"] });
  await until("the list is in effect", async () => (await list()) > before);
  for (const page of pages) await say(page, "a BadWord");
  await notes(["This text is not allowed here", "内容不允许在此发布"]);
  await server.ask("PATCH", ROOM, { mute_all: true });
  for (const page of pages) await say(page, "hello");
  await notes(["Nobody may speak here now", "现在全员禁言"]);
  assert.ok(
    (await lines(english)).every((line) => !/BadWord$|hello$/.test(line)),
    "marked",
  );
});

check("a moderator sees what is held early, marked, and once", async () => {
  const server = await Server.start(WITH_USERS);
  await server.ask("POST", "/v1/rooms", { room: "lobby", delay_ms: 5_000 });
  const { token } = await server.ask("POST", "/v1/tokens", {
    user: "mod",
    ttl_s: 600,
    moderate: true,
  });
  const page = await visit(await browser(), `${server.http}/#token=${token}`);
  await isIn(page);
  const speak = (text: string) =>
    server.ask("POST", `${ROOM}/publish`, { user: "ann", class: "chat", text });
  await speak("stays");
  const { seq } = await speak("goes");
  await page.waitForFunction(() => document.querySelectorAll("#lines .held small").length === 2);
  await server.ask("POST", `${ROOM}/recall`, { seqs: [seq] });
  await page.waitForFunction(() => document.querySelectorAll("#lines li").length === 1);
  await page.waitForFunction(() => document.querySelector("#lines .held") === null);
  await shows(page, ["stays"]);
});
