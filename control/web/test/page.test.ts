/** The room page in a real Chromium, with a real server behind it. */

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { Page } from "playwright-core";
import { browser } from "./browser.js";
import { isIn, lines, other, say, visit } from "./room_page.js";
import { check, ending, mint, Server, sleep, until, Wire, WITH_USERS } from "./server.js";

check("two pages see what each other says, and one's own line is there at once", async () => {
  const server = await Server.start();
  const chromium = await browser();
  const [ann, bob] = [await visit(chromium, server.http), await visit(chromium, server.http)];
  await Promise.all([isIn(ann), isIn(bob)]);
  // Before anything can have come back, so on a machine of any speed.
  const own = await ann.evaluate(() => {
    document.querySelector<HTMLInputElement>("#text")!.value = "hello 你好";
    document.querySelector<HTMLFormElement>("#say")!.requestSubmit();
    return document.querySelector("#lines .own.pending")?.textContent;
  });
  assert.match(own ?? "", /hello 你好$/);
  await bob.waitForFunction(() => document.querySelector("#lines")!.textContent!.includes("你好"));
  await ann.waitForSelector("#lines .own:not(.pending)");
  assert.equal((await lines(ann)).length, 1, "it is there once");
  await bob.click("#like");
  await bob.click("#like");
  await ann.waitForFunction(() => document.querySelector("#likes")!.textContent === "2");
  await ann.waitForFunction(() => document.querySelector("#viewers")!.textContent === "2");
});

check("markup that somebody says is text", async () => {
  const server = await Server.start();
  const page = await visit(await browser(), server.http);
  await isIn(page);
  const { room } = other(server);
  const nasty = `<img src=x onerror="document.title='caught'"><script>1</script>`;
  await room.publish(nasty);
  await page.waitForFunction(() => document.querySelectorAll("#lines li").length === 1);
  assert.ok((await lines(page))[0].endsWith(nasty));
  assert.equal(await page.title(), "lobby · uproar");
});

check("a line that is shed is shown to its own user within 200 ms, and marked", async () => {
  const server = await Server.start(
    "[engine.rooms.defaults]\nrate_per_s = 1\nuser_rate_per_s = 50\n",
  );
  const page = await visit(await browser(), server.http);
  await isIn(page);
  const { room, heard } = other(server);
  await until("the other one is in", () => room.joined);
  // Measured in the page: from the key to the line.
  const began = Date.now();
  const waits = await page.evaluate(async () => {
    const input = document.querySelector<HTMLInputElement>("#text")!;
    const waits: number[] = [];
    for (let n = 0; n < 12; n += 1) {
      const began = performance.now();
      input.value = `line ${n}`;
      document.querySelector<HTMLFormElement>("#say")!.requestSubmit();
      while (!document.querySelector("#lines")!.textContent!.includes(`line ${n}`)) {
        await new Promise((next) => setTimeout(next, 1));
      }
      waits.push(performance.now() - began);
    }
    return waits;
  });
  // The longer it took, the more of them the room admitted.
  const gone_s = Math.ceil((Date.now() - began) / 1_000);
  // A machine that is busy lets a page wait now and then, not most of the time.
  const median = waits.sort((a, b) => a - b)[6];
  assert.ok(median < 200, `${median} ms`);
  await page.waitForSelector("#lines .local small");
  await page.waitForFunction(() => !document.querySelector("#lines .pending"));
  const local = await page.$$eval("#lines .local", (items) => items.length);
  assert.ok(local >= 7 - gone_s, `${local} of 12 are marked`);
  const others = await page.$$eval("#lines li:not(.local)", (items) =>
    items.map((item) => item.lastChild!.textContent!),
  );
  await until("the others are heard", () => heard.length >= others.length);
  assert.deepEqual(heard, others, "the others are what everybody heard");
});

check(
  "the network goes for 20 s: the page is back by itself, with all there was, once",
  async () => {
    const server = await Server.start();
    const wire = await Wire.to(server);
    const page = await visit(await browser(), server.http, { wire });
    await isIn(page);
    const { room } = other(server);
    await until("the other one is in", () => room.joined);
    await room.publish("before");
    await page.waitForFunction(() => document.querySelectorAll("#lines li").length === 1);
    wire.cut();
    await page.waitForSelector("#banner:not([hidden])");
    for (let n = 0; n < 20; n += 1) {
      await room.publish(`meanwhile ${n}`);
      await sleep(1_000);
    }
    wire.mend();
    await isIn(page);
    await page.waitForFunction(() => document.querySelectorAll("#lines li").length === 21);
    const expected = ["before", ...Array.from({ length: 20 }, (_, n) => `meanwhile ${n}`)];
    assert.deepEqual(
      (await lines(page)).map((line) => line.replace(/^\S+ /, "")),
      expected,
    );
    assert.equal(await page.$("#lines .note"), null, "no gap is shown");
    assert.equal(await page.isHidden("#banner"), true);
  },
  240_000,
);

check("a gap is shown where the history was passed", async () => {
  const server = await Server.start(
    "[engine.rooms]\nhistory_messages_max = 5\nsnapshot_messages_max = 5\n" +
      "[engine.rooms.defaults]\nuser_rate_per_s = 100\n",
  );
  const wire = await Wire.to(server);
  const page = await visit(await browser(), server.http, { wire, locale: "zh-CN" });
  await isIn(page);
  const { room } = other(server);
  await until("the other one is in", () => room.joined);
  await room.publish("0");
  await page.waitForFunction(() => document.querySelectorAll("#lines li").length === 1);
  wire.cut();
  for (let n = 1; n <= 12; n += 1) await room.publish(`${n}`);
  await page.waitForSelector("#banner:not([hidden])");
  wire.mend();
  await page.waitForFunction(() =>
    document.querySelector("#lines li:last-child")!.textContent!.endsWith("12"),
  );
  const note = await page.textContent("#lines .note");
  const shown = (await lines(page)).length;
  assert.equal(note, `此处错过了 ${13 - shown} 条消息`);
});

check("slow mode counts down on the button, and what was refused is marked", async () => {
  // Long enough to say another line meanwhile, on a machine of any speed.
  const server = await Server.start("[engine.rooms.defaults]\nslow_mode_s = 10\n");
  const page = await visit(await browser(), server.http);
  await isIn(page);
  await say(page, "one");
  await page.waitForFunction(() => /^[1-8] s$/.test(document.querySelector("#send")!.textContent!));
  await say(page, "two");
  assert.equal((await lines(page)).length, 1, "the button holds it back");
  assert.equal(await page.inputValue("#text"), "two", "and nothing typed is lost");
  await page.waitForSelector("#send:not([disabled])");
  await page.press("#text", "Enter");
  await page.waitForFunction(() => document.querySelectorAll("#lines li").length === 2);
});

check("a room for followers says so where one writes", async () => {
  const server = await Server.start("[engine.rooms.defaults]\nfollowers_only_s = 600\n");
  const page = await visit(await browser(), server.http);
  await isIn(page);
  await page.waitForSelector('#text[placeholder="Followers only, for 10 min or longer"]');
  await say(page, "hello");
  await page.waitForSelector("#lines .failed");
  assert.equal(await page.textContent("#note"), "Only followers may speak here");
});

check("the list stays bounded, and does not move under who reads back", async () => {
  const server = await Server.start(
    "[engine.rooms.defaults]\nrate_per_s = 1000\nuser_rate_per_s = 1000\n",
  );
  const page = await visit(await browser(), server.http);
  await isIn(page);
  const { room } = other(server);
  await until("the other one is in", () => room.joined);
  const flood = async (count: number) => {
    for (let n = 0; n < count; n += 20) {
      await Promise.all(Array.from({ length: 20 }, () => room.publish("and another line")));
    }
  };
  await flood(300);
  await page.waitForFunction(() => document.querySelectorAll("#lines li").length === 200);
  await page.$eval("#lines", (list) => (list.scrollTop = 0));
  await flood(20);
  await page.waitForSelector("#newest:not([hidden])");
  assert.ok((await page.$eval("#lines", (list) => list.scrollTop)) < 100);
  await page.click("#newest");
  await page.waitForSelector("#newest", { state: "hidden" });
});

check("by keyboard alone, on a phone, and in both languages", async () => {
  const server = await Server.start();
  const chromium = await browser();
  const page = await visit(chromium, server.http, { width: 360, locale: "zh-CN" });
  await isIn(page);
  assert.equal(await page.textContent("#send"), "发送");
  assert.equal(await page.getAttribute("html", "lang"), "zh");
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(width <= 360, `${width} pixels wide`);
  await page.keyboard.press("/");
  await page.keyboard.type("typed");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#lines .own:not(.pending)");
  await page.keyboard.press("Escape");
  await page.keyboard.press("l");
  await page.waitForFunction(() => document.querySelector("#likes")!.textContent === "1");
  await page.keyboard.press("d");
  assert.equal(await page.getAttribute("#flying", "aria-pressed"), "false");
  const english = await visit(chromium, `${server.http}/?lang=en`);
  assert.equal(await english.textContent("#send"), "Send");
});

check("who must sign in is asked to, and is in under that name", async () => {
  const server = await Server.start(`${WITH_USERS}[accounts]\nregistration_open = true\n`);
  await server.ask("POST", "/v1/accounts", { user: "ann", password: "a password of ann" });
  const page = await visit(await browser(), server.http);
  await page.waitForSelector("#sign-in[open]");
  await page.fill("[name=user]", "ann");
  await page.fill("[name=password]", "a wrong one");
  await page.press("[name=password]", "Enter");
  await page.waitForFunction(() => document.querySelector(".wrong")!.textContent !== "");
  await page.fill("[name=password]", "a password of ann");
  await page.press("[name=password]", "Enter");
  await isIn(page);
  await say(page, "it is me");
  await page.waitForSelector("#lines .own:not(.pending)");
  assert.deepEqual(await lines(page), ["ann it is me"]);
});

check("gifts count up, and notices of the host stand out", async () => {
  const server = await Server.start();
  const page = await visit(await browser(), server.http);
  await isIn(page);
  const give = (of: string, text: string) =>
    server.ask("POST", "/v1/rooms/lobby/publish", { user: "host", class: of, text });
  for (let n = 0; n < 3; n += 1) await give("gift", "a rocket");
  await page.waitForSelector('#gifts li[data-count="×3"]');
  await give("system", "five minutes left");
  await page.waitForSelector("#lines .system");
});

check("who taps the gift button is one line and one banner that count up", async () => {
  const server = await Server.start(WITH_USERS);
  const token = await mint(server, "ann", 600, { publish: ["chat", "gift"] });
  const chromium = await browser();
  const page = await visit(chromium, `${server.http}/#token=${token}`);
  await isIn(page);
  await page.waitForSelector("#gift:not([hidden])");
  const watching = await mint(server, "bob");
  const other = await visit(chromium, `${server.http}/#token=${watching}`);
  await isIn(other);
  for (let n = 0; n < 30; n += 1) await page.click("#gift");
  // A banner goes by itself: on both pages all are counted the moment that one says 30.
  const banners = (seen: Page) =>
    seen.waitForFunction(() => {
      const all = [...document.querySelectorAll<HTMLElement>("#gifts li")];
      return all.some((one) => one.dataset.count === "×30") && all.length;
    });
  for (const many of await Promise.all([page, other].map(banners))) {
    assert.equal(await many.jsonValue(), 1);
  }
  for (const seen of [page, other]) assert.deepEqual(await lines(seen), ["ann 🌹 ×30"]);
  assert.equal(await other.isVisible("#gift"), false, "its token permits no gifts");
});

check("three lines in a page of another site make it live", async () => {
  const server = await Server.start();
  const site = createServer((_, answer) => {
    answer.setHeader("content-type", "text/html");
    answer.end(`<p id="out"></p><script type="module">
      import { Uproar } from "${server.http}/sdk/uproar.js";
      const room = new Uproar({ url: "${server.url}" }).room("lobby");
      room.on("message", (message) => (out.textContent += message.text));
      room.on("joined", () => (document.title = "in"));
    </script>`);
  });
  ending(site, (site) => site.close());
  await new Promise<void>((resolve) => site.listen(0, "127.0.0.1", resolve));
  const { port } = site.address() as { port: number };
  const page = await visit(await browser(), `http://127.0.0.1:${port}/`);
  await page.waitForFunction(() => document.title === "in");
  await other(server).room.publish("heard elsewhere");
  await page.waitForFunction(() => document.body.textContent!.includes("heard elsewhere"));
});

check("the bullet comments keep their pace", async () => {
  const server = await Server.start(
    "[engine.rooms.defaults]\nrate_per_s = 20\nuser_rate_per_s = 50\n",
  );
  const page = await visit(await browser(), server.http);
  await isIn(page);
  const { room } = other(server);
  // Of lines as long as these no more fit on the stage; the others are counted, and in the list.
  // Looked at while they come: on a machine that is busy the first ones land meanwhile.
  const seen = page.waitForFunction(() => {
    const { flying, crowded, fps } = (globalThis as any).figures();
    return flying >= 10 && flying + crowded > 40 && fps > 0;
  });
  const said = async () => {
    for (let n = 0; n < 60; n += 1) {
      void room.publish(`a bullet comment of some length, number ${n}`);
      await sleep(50);
    }
  };
  await Promise.all([seen, said()]);
});
