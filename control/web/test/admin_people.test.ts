/** What an operator does about people on its page, and what becomes of their clients. */

import assert from "node:assert/strict";
import { Page } from "playwright-core";
import { Options, State, Uproar } from "../sdk/index.js";
import { act, admin, viewer } from "./admin_page.js";
import { client, clientFrom } from "./client.js";
import { check, mint, Server, until, WITH_USERS } from "./server.js";

/** Numbers of PROTOCOL.md's table of codes. */
const CODE = { muted: 2013, roomMuted: 2024, followersOnly: 2035, banned: 3006 };
/** An address of the loopback network that no other client of a test has. */
const THERE = "127.0.0.9";

const isBanned = ({ state }: { state: State }) =>
  state.is === "closed" && state.why?.code === CODE.banned;
const isOnline = ({ state }: { state: State }) => state.is === "online";

const VIEWS = ["overview", "rooms", "room/stage", "users", "blocks", "quality", "filter", "audit"];

/** All that the page asks from now on. */
function questions(page: Page): string[] {
  const asked: string[] = [];
  page.on("dialog", (dialog) => asked.push(dialog.message()));
  return asked;
}

const cellsOf = (page: Page, text: string) =>
  page.$$eval(
    "section:not([hidden]) .paged tbody tr",
    (rows, text) => {
      const row = rows.find((row) => row.textContent!.includes(text));
      return [...(row?.querySelectorAll("td") ?? [])].map((cell) => cell.textContent ?? "");
    },
    text,
  );

check("what is blocked is out at once, and comes in again when it is let in", async () => {
  const server = await Server.start();
  const join = (live: Uproar) => (live.room("stage"), live);
  const there = () => join(clientFrom(THERE, { url: server.url, device: "desk" }));
  const phone = () => join(client({ url: server.url, device: "phone-7" }));
  const [first, second, bystander] = [there(), phone(), viewer(server, "stage")];
  await until("all are in", () => [first, second, bystander].every(isOnline));
  const page = await admin(server, "#blocks");
  await page.waitForSelector("#blocks p:text-is('nothing is kept out')");
  const asked = questions(page);
  const given = { kind: "address", values: THERE, hours: "2", reason: "<i>spam</i>" };
  assert.equal(await act(page, "Block", given), "1 kept out");
  await until("who came from there is out", () => isBanned(first));
  assert.match(asked[0], /Connections from there are closed[^]*127\.0\.0\.9/);
  const [kind, value, end, reason] = await cellsOf(page, THERE);
  assert.deepEqual([kind, value, reason], ["address", `${THERE}/32`, "<i>spam</i>"]);
  const left_ms = new Date(end).getTime() - Date.now();
  assert.ok(Math.abs(left_ms - 2 * 3_600_000) < 60_000, end);
  const device = { kind: "device", values: "phone-7\ntablet", hours: "0", reason: "" };
  assert.equal(await act(page, "Block", device), "2 kept out");
  await until("the device is out", () => isBanned(second));
  assert.deepEqual((await cellsOf(page, "phone-7")).slice(0, 3), ["device", "phone-7", "for ever"]);
  assert.ok(isOnline(bystander));
  const again = [there(), phone()];
  await until("neither comes in again", () => again.every(isBanned));

  for (const what of [`${THERE}/32`, "phone-7"]) {
    await page.click(`#blocks button[aria-label="Let ${what} in"]`);
    await page.waitForSelector(`#blocks output.done:text-is("${what} may come again")`);
  }
  await page.waitForSelector("#blocks p:text-is('1 are kept out')");
  // All shards know within a second; who is refused before that does not try again by itself.
  for (const come of [there, phone]) {
    let live = come();
    await until("it is in again", () => {
      if (isBanned(live)) live = come();
      return isOnline(live);
    });
  }
});

check("what may not be blocked is said beside the form, and a no changes nothing", async () => {
  const server = await Server.start();
  const page = await admin(server, "#blocks");
  await page.waitForSelector("#blocks form");
  const wide = { kind: "address", values: "203.0.113.1\n10.0.0.0/4" };
  assert.match(await act(page, "Block", wide), /\/4 has 4 bits; allowed is \/8 to \/32/);
  assert.match(await act(page, "Block", { values: "here" }), /here/);
  const values = Array.from({ length: 101 }, (_, n) => `10.0.0.${n}`);
  assert.match(await act(page, "Block", { values: values.join("\n") }), /101.*1 to 100/);
  await page.waitForSelector("#blocks p:text-is('nothing is kept out')");
  page.removeAllListeners("dialog");
  const refused = new Promise<void>((done) =>
    page.once("dialog", (dialog) => void dialog.dismiss().then(done)),
  );
  await page.fill("#blocks [name=values]", "203.0.113.1");
  await page.click("#blocks button:text-is('Block')");
  await refused;
  const read = () => page.evaluate(async () => (await fetch("/v1/admin/blocks")).json());
  assert.deepEqual((await read()).blocks, []);

  // More than a page of them.
  page.on("dialog", (dialog) => void dialog.accept());
  for (const some of [values.slice(0, 100), values.slice(100)]) {
    await act(page, "Block", { values: some.join("\n") });
  }
  await page.waitForSelector("#blocks p:text-is('100 or more are kept out')");
  await page.click("#blocks button:text-is('More')");
  await page.waitForSelector("#blocks p:text-is('101 are kept out')");
  assert.equal(await page.isVisible("#blocks button:text-is('More')"), false);
});

/** A room of a server that knows users, the operator's page of it, and who may come. */
async function withUsers(options?: object) {
  const server = await Server.start(WITH_USERS);
  const enter = async (user: string, from = "127.0.0.1", more: Partial<Options> = {}) => {
    const token = await mint(server, user);
    const live = clientFrom(from, { url: server.url, token, ...more });
    const room = live.room("stage");
    let out = 0;
    room.on("left", ({ code }) => (out = code));
    room.on("error", ({ code }) => (out = code));
    return { live, room, out: () => out };
  };
  await server.ask("POST", "/v1/rooms", { room: "stage" });
  const page = await admin(server, "#room/stage", options);
  await page.waitForSelector("#room h2");
  return { server, enter, page };
}

check("a ban with devices and addresses is listed, and ended there", async () => {
  const { enter, page } = await withUsers();
  const mallory = await enter("mallory", THERE, { device: "phone-7" });
  const ann = await enter("ann");
  await until("both are in", () => mallory.room.joined && ann.room.joined);
  await page.waitForSelector("#room p:text-is('nobody is banned')");
  const asked = questions(page);
  const none = { user: "mallory", seconds: "0", devices: "on", reason: "spam" };
  assert.match(await act(page, "Remove and ban", none), /ban_s is 0; devices and addresses/);
  const ban = { seconds: "600", devices: "on", addresses: "on" };
  const done = "1 connections removed, banned for 600 s, 1 devices too, 1 addresses too";
  assert.equal(await act(page, "Remove and ban", ban), done);
  assert.match(asked[1], /mallory.*its devices and its addresses for 600 s.*Others/);
  await until("it is out", () => mallory.out() === CODE.banned);
  const others = [
    await enter("trudy", THERE),
    await enter("eve", "127.0.0.1", { device: "phone-7" }),
  ];
  await until("neither address nor device helps", () =>
    others.every(({ out }) => out() === CODE.banned),
  );
  assert.ok(ann.room.joined);
  const [user, end, more, by, reason] = await cellsOf(page, "mallory");
  assert.deepEqual(
    [user, more, by, reason],
    ["mallory", "1 devices, 1 addresses", "operator", "spam"],
  );
  assert.ok(Math.abs(new Date(end).getTime() - Date.now() - 600_000) < 60_000, end);

  // By the keyboard alone.
  await page.focus("#room button:text-is('Do it to all')");
  await page.keyboard.press("Tab");
  const label = await page.evaluate(() => document.activeElement!.getAttribute("aria-label"));
  assert.equal(label, "End the ban of mallory");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#room output.done:text-is('mallory may come again')");
  await page.waitForSelector("#room p:text-is('nobody is banned')");
  const back = await enter("mallory", THERE, { device: "phone-7" });
  const trudy = await enter("trudy", THERE);
  await until("both are in", () => back.room.joined && trudy.room.joined);
  assert.equal((await back.room.publish("sorry")).outcome, "accepted");
});

check("many are banned with their addresses, and only muting asks nothing", async () => {
  const { server, enter, page } = await withUsers();
  const two = [await enter("mallory", THERE), await enter("trudy", "127.0.0.10")];
  await until("both are in", () => two.every(({ room }) => room.joined));
  const asked = questions(page);
  const all = { users: "mallory\ntrudy", seconds: "60", reason: "loud" };
  assert.equal(await act(page, "Do it to all", { ...all, action: "mute" }), "done to 2 of 2");
  for (const { room } of two) assert.equal((await room.publish("hm")).code, CODE.muted);
  assert.deepEqual(asked, []);
  assert.equal(
    await act(page, "Mute", { user: "trudy", seconds: "0", reason: "" }),
    "may speak again",
  );
  assert.equal((await two[1].room.publish("hm")).outcome, "accepted");
  assert.equal(
    await act(page, "Do it to all", { ...all, action: "ban", addresses: "on" }),
    "done to 2 of 2",
  );
  assert.deepEqual(asked, ["ban: 2 users?"]);
  await until("both are out", () => two.every(({ out }) => out() === CODE.banned));
  await page.waitForSelector("#room p:text-is('2 are banned')");
  const eve = await enter("eve", "127.0.0.10");
  await until("nor does anybody else come from there", () => eve.out() === CODE.banned);
  // Another moderator ends one: it is seen with the next look.
  await server.ask("DELETE", "/v1/rooms/stage/bans/mallory");
  await page.click("#room button:text-is('Look again')");
  await page.waitForSelector("#room p:text-is('1 are banned')");
});

check("what is said is heard; a line is recalled, and its user goes into the forms", async () => {
  const { server, enter, page } = await withUsers();
  const { room } = await enter("mallory");
  const watching = await enter("ann");
  const seen: string[] = [];
  const gone: number[] = [];
  watching.room.on("message", ({ text }) => seen.push(text ?? ""));
  watching.room.on("recalled", ({ seqs }) => gone.push(...seqs));
  await until("both are in", () => room.joined && watching.room.joined);
  await room.publish("before");
  await page.click("#room button:text-is('Listen')");
  await page.waitForSelector("#room .said td:has-text('before')");
  await page.waitForSelector("#room .hint:has-text('the newest first')");
  const fate = await room.publish("buy <b>this</b>");
  const row = page.locator("#room .said tbody tr:first-child", { hasText: "buy <b>this</b>" });
  await row.waitFor();
  await until("it is seen", () => seen.length === 2);
  const asked = questions(page);
  await row.locator("button:text-is('Recall')").click();
  await until("it is off the screens", () => gone[0] === fate.seq);
  assert.match(asked[0], /does not come back[^]*mallory: buy/);
  await page.waitForSelector("#room .said tr.gone:has-text('recalled')");
  await row.locator("button:text-is('mallory')").click();
  assert.equal(await act(page, "Mute", {}), "silent for 600 s");
  assert.equal((await room.publish("hm")).code, CODE.muted);
  assert.equal(await page.inputValue("#room [name=users]"), "mallory");
  assert.equal(await act(page, "Recall all of", {}), "1 messages recalled");

  // What viewers see later is seen here at once, and may be recalled before.
  await act(page, "Set", { delay_ms: "5000" });
  await act(page, "Mute", { seconds: "0" });
  const later = await room.publish("soon");
  await page.waitForSelector(
    "#room .said tr:has-text('soon') small:text-is('not shown to viewers yet')",
  );
  await page.click(`#room button[aria-label="Recall message ${later.seq}"]`);
  await page.waitForSelector("#room .said tr.gone:has-text('soon')");
  assert.deepEqual(seen, ["before", "buy <b>this</b>"]);

  // It ends with the room's page: this browser is no viewer any more.
  const viewers = async () => (await server.ask("GET", "/v1/rooms/stage/members?limit=10")).users;
  assert.ok((await viewers()).includes("operator"));
  await page.click("nav a:text-is('Rooms')");
  await until("it listens no more", async () => !(await viewers()).includes("operator"));
});

check("who may speak is set: nobody but those allowed, or followers", async () => {
  const { enter, page } = await withUsers();
  const [ann, bob] = [await enter("ann"), await enter("bob")];
  await until("both are in", () => ann.room.joined && bob.room.joined);
  assert.equal(await act(page, "Set", { mute_all: "on", allowed: "ann" }), "set");
  assert.equal((await ann.room.publish("one")).outcome, "accepted");
  assert.equal((await bob.room.publish("two")).code, CODE.roomMuted);
  const followers = { mute_all: "", allowed: "", followers_only_s: "60" };
  assert.equal(await act(page, "Set", followers), "set");
  assert.equal((await bob.room.publish("three")).code, CODE.followersOnly);
  assert.equal(await act(page, "Set", { followers_only_s: "" }), "set");
  assert.equal((await bob.room.publish("four")).outcome, "accepted");
});

check("on a phone in the dark no view is wider than the screen, in either language", async () => {
  const phone = { viewport: { width: 360, height: 740 }, colorScheme: "dark" as const };
  const { server, enter, page } = await withUsers({ ...phone, locale: "zh-CN" });
  const mallory = await enter("mallory", THERE, { device: "phone-7" });
  await until("it is in", () => mallory.room.joined);
  const ban = { users: ["mallory"], action: "ban", seconds: 60, devices: true, addresses: true };
  await server.ask("POST", "/v1/rooms/stage/moderation", { ...ban, reason: "x".repeat(200) });
  const block = { kind: "address", value: "2001:db8:1234:5600::/56", reason: "y".repeat(200) };
  await server.ask("PUT", "/v1/admin/blocks", { blocks: [block] });
  const english = await admin(server, "", { ...phone, locale: "en" });
  for (const view of VIEWS) {
    const section = `#${view.split("/")[0]}`;
    for (const one of [page, english]) {
      await one.goto(one.url().replace(/#.*|$/, `#${view}`));
      await one.waitForSelector(`${section}:not([hidden]) > *`);
      if (view === "room/stage") await one.waitForSelector("#room .paged td:text-is('mallory')");
      if (view === "blocks") await one.waitForSelector("#blocks .paged td");
      const [wide, wider] = await one.evaluate(() => [
        document.documentElement.clientWidth,
        document.documentElement.scrollWidth,
      ]);
      assert.ok(wider <= wide, `${view} is ${wider} px wide on a screen of ${wide}`);
    }
    // What the page says itself; names and what the interface calls by a name stay as they are.
    const said = await page.$$eval(
      `nav a, ${section} button, ${section} h3, ${section} th, ${section} option`,
      (all) => all.map((one) => one.textContent!.trim()),
    );
    const names = ["", "mallory", "stage", "CDN"];
    const left = said.filter((text) => !/\p{Script=Han}/u.test(text) && !names.includes(text));
    assert.deepEqual(left, [], `${view} is in Chinese`);
  }
});
