/** The chat page in a real Chromium: two people, a group, and who was away. */

import assert from "node:assert/strict";
import { BrowserContext, Page } from "playwright-core";
import { Uproar } from "../sdk/index.js";
import { browser, contextPage, emptyPage } from "./browser.js";
import { client } from "./client.js";
import { check, mint, Server, until, WITH_USERS } from "./server.js";

const OPEN = `${WITH_USERS}[accounts]\nregistration_open = true\n`;
const password = (user: string) => `a password of ${user}`;

/** A page of somebody, who registers in it. */
async function register(page: Page, server: Server, user: string): Promise<Page> {
  await page.goto(`${server.http}/chat`);
  await page.fill("#sign-in [name=user]", user);
  await page.fill("#sign-in [name=password]", password(user));
  await page.click("#sign-in button[value=new]");
  return isIn(page);
}

async function isIn(page: Page): Promise<Page> {
  await page.waitForSelector('body[data-state="online"][data-caught="up"]');
  return page;
}

async function befriend(server: Server, user: string, peer: string): Promise<void> {
  await server.ask("PUT", "/v1/relations", { relations: [{ user, peer, friends: true }] });
}

const open = (page: Page, name: string) => page.click(`#chats li[data-name="${name}"] a`);

async function say(page: Page, text: string): Promise<void> {
  await page.fill("#text", text);
  await page.press("#text", "Enter");
}

const texts = (page: Page) =>
  page.$$eval("#messages li:not(.notice) p", (all) => all.map((one) => one.textContent));

const sees = (page: Page, selector: string, text: string) =>
  page.waitForSelector(`${selector}:has-text("${text}")`);

/** Somebody's device without a page. */
async function device(server: Server, user: string): Promise<Uproar> {
  const live = client({ url: server.url, token: () => mint(server, user), inbox: true });
  await until(`${user} is online`, () => live.state.is === "online");
  return live;
}

check("two people become friends, write, read, react and recall", async () => {
  const server = await Server.start(OPEN);
  const chromium = await browser();
  const ann = await register(await emptyPage(chromium), server, "ann");
  const bob = await register(await emptyPage(chromium, { locale: "zh-CN" }), server, "bob");
  // Ann asks, Bob is told at once and accepts.
  await ann.click("#people");
  await ann.fill("#panel input", "bob");
  await ann.press("#panel input", "Enter");
  await sees(bob, "#asking", "1");
  await bob.click("#people");
  await bob.click('#panel li[data-user="ann"] button:text-is("同意")');
  await ann.click('#panel li[data-user="bob"] button:text-is("Write")');
  await bob.click('#panel button:text-is("关闭")');
  // What is said is unread, then read, and its author learns both.
  await say(ann, "hello 你好 <img src=x>");
  await sees(bob, '#chats li[data-name="user:ann"] .unread', "1");
  await sees(ann, ".own .reach", "delivered");
  await open(bob, "user:ann");
  await sees(bob, "#messages .other p", "hello 你好 <img src=x>");
  await sees(ann, ".own .reach", "read");
  await bob.waitForFunction(() => !document.querySelector("#chats .unread"));
  await bob.type("#text", "y");
  await sees(ann, "#typing", "bob is typing");
  await sees(ann, "#about", "online");
  // A reaction and a recall.
  await bob.hover("#messages .other");
  await bob.click('#messages .other .tools button:text-is("👍")');
  await sees(ann, "#messages .reactions button", "👍 1");
  await say(ann, "not meant for you");
  await sees(bob, "#messages", "not meant for you");
  await ann.hover("#messages li:last-child");
  await ann.click("#messages li:last-child .recall");
  await sees(bob, "#messages .gone p", "已撤回");
  assert.deepEqual(await texts(bob), ["hello 你好 <img src=x>", "已撤回"]);
  // Who is no friend any more is refused, and told why; again when they are friends it goes.
  await server.ask("PUT", "/v1/relations", {
    relations: [{ user: "ann", peer: "bob", friends: false }],
  });
  await say(bob, "still there?");
  await sees(bob, "#pending .failed", "对方只接收好友的消息");
  await befriend(server, "ann", "bob");
  await bob.click("#pending .again");
  await sees(ann, "#messages", "still there?");
  // Its author's own answer may come after what others are told.
  await bob.waitForFunction(() => document.querySelector("#pending li") === null);
});

check("who closed the page finds all that was said, once, in order, and unread", async () => {
  const server = await Server.start(OPEN);
  const context = await (await browser()).newContext();
  const ann = await register(await contextPage(context), server, "ann");
  await server.ask("POST", "/v1/accounts", { user: "bob", password: password("bob") });
  await befriend(server, "ann", "bob");
  const bob = await device(server, "bob");
  const said = async (from: number, to: number) => {
    for (let n = from; n < to; n += 1) await bob.conversations.send("user:ann", `line ${n}`);
  };
  let read = 0;
  bob.conversations.on("cursors", ({ users }) => {
    read = Math.max(read, ...users.filter(({ user }) => user === "ann").map((one) => one.read_seq));
  });
  await said(0, 5);
  await open(ann, "user:bob");
  await until("ann has read them", () => read === 5);
  await ann.close();
  await said(5, 260);
  const again = await back(context, server);
  await sees(again, '#chats li[data-name="user:bob"] .unread', "255");
  await open(again, "user:bob");
  await again.waitForFunction(() => !document.querySelector("#chats .unread"));
  await sees(again, "#messages li:last-child", "line 259");
  // Back to the first one: each is drawn once and in order, and never too many of them.
  const heard = new Set<string>();
  for (let tries = 0; tries < 200 && !heard.has("line 0"); tries += 1) {
    const drawn = await texts(again);
    assert.ok(drawn.length <= 200, `${drawn.length} are drawn`);
    const numbers = drawn.map((text) => Number(text!.split(" ")[1]));
    numbers.forEach((n, place) => assert.equal(n, numbers[0] + place, "in order, once"));
    drawn.forEach((text) => heard.add(text!));
    await again.$eval("#scroll", (scroll) => (scroll.scrollTop = 0));
    await again.waitForTimeout(50);
  }
  assert.equal(heard.size, 260);
  // What comes while she reads back is told, and does not move her.
  await said(260, 261);
  await sees(again, "#newest", "1 new");
  await again.click("#newest");
  await sees(again, "#messages li:last-child", "line 260");
  // A keyboard comes up: who reads along still does.
  await again.setViewportSize({ width: 390, height: 400 });
  await again.waitForFunction(() => {
    const { scrollTop, clientHeight, scrollHeight } = document.querySelector("#scroll")!;
    return clientHeight < 400 && scrollTop + clientHeight > scrollHeight - 10;
  });
});

/** The page again, in the same browser. */
async function back(context: BrowserContext, server: Server): Promise<Page> {
  const page = await contextPage(context);
  await page.goto(`${server.http}/chat`);
  return isIn(page);
}

check("a group is made, invited into, read and left; on a phone", async () => {
  const server = await Server.start(OPEN);
  const chromium = await browser();
  const phone = { viewport: { width: 390, height: 780 } };
  const ann = await register(await emptyPage(chromium, phone), server, "ann");
  for (const user of ["bob", "cleo"]) {
    await server.ask("POST", "/v1/accounts", { user, password: password(user) });
    await befriend(server, "ann", user);
  }
  const bob = await device(server, "bob");
  const heard: string[] = [];
  bob.conversations.on("message", ({ conversation, message }) => {
    if (message.kind === "message") heard.push(message.text);
    bob.conversations.markRead(conversation, message.seq);
  });
  await ann.click("#new-group");
  await ann.fill("#panel [name=name]", "Hikers");
  await ann.check('#panel [value="bob"]');
  await ann.click('#panel button:text-is("Make it")');
  await sees(ann, "#title", "Hikers");
  await sees(ann, "#about", "2 members");
  await say(ann, "up the hill");
  await until("bob hears it", () => heard.includes("up the hill"));
  await sees(ann, ".own .reach", "read by 1");
  await ann.click("#group");
  await ann.click('#panel li[data-user="cleo"] button');
  await sees(ann, "#panel h2", "3 members");
  ann.on("dialog", (dialog) => void dialog.accept());
  await ann.click("#panel .leave");
  await sees(ann, "#about", "no more");
  assert.equal(await ann.isHidden("#panel"), true);
  assert.equal(await ann.isHidden("#say"), true);
  assert.equal(await ann.isHidden("#side"), true, "one pane at a time");
  await ann.click("#back");
  await ann.waitForSelector("#side", { state: "visible" });
  const width = await ann.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(width <= 390, `${width} pixels wide`);
});

check("pages of one browser that signed in as two users do not mix them up", async () => {
  const server = await Server.start(`${OPEN}access_ttl_s = 31\n`);
  const context = await (await browser()).newContext();
  const [ann, bob] = [await contextPage(context), await contextPage(context)];
  await bob.goto(`${server.http}/chat`);
  await bob.waitForSelector("#sign-in[open]");
  await register(ann, server, "ann");
  await befriend(server, "ann", "cleo");
  const cleo = await device(server, "cleo");
  await cleo.conversations.send("user:ann", "for ann alone");
  await sees(ann, "#chats", "for ann alone");
  await bob.fill("#sign-in [name=user]", "bob");
  await bob.fill("#sign-in [name=password]", password("bob"));
  await bob.click("#sign-in button[value=new]");
  await isIn(bob);
  // The newest login is everybody's once a token is due and the connection is another one.
  await ann.waitForTimeout(1_500);
  await ann.evaluate(() => (globalThis as any).live.link.socket.close());
  await sees(ann, "#me", "bob");
  await isIn(ann);
  assert.equal(await ann.textContent("#chats"), "");
});
