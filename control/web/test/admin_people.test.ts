/** What an operator does about people on its page, and what becomes of their clients. */

import assert from "node:assert/strict";
import { act, admin } from "./admin_page.js";
import { client } from "./client.js";
import { check, mint, Server, until, WITH_USERS } from "./server.js";

/** Numbers of PROTOCOL.md's table of codes. */
const CODE = { roomMuted: 2024, followersOnly: 2035 };

const VIEWS = ["overview", "rooms", "room/stage", "users", "quality", "filter", "audit"];

/** A room of a server that knows users, the operator's page of it, and who may come. */
async function withUsers(options?: object) {
  const server = await Server.start(WITH_USERS);
  const enter = async (user: string) => {
    const token = await mint(server, user);
    return { room: client({ url: server.url, token }).room("stage") };
  };
  await server.ask("POST", "/v1/rooms", { room: "stage" });
  const page = await admin(server, "#room/stage", options);
  await page.waitForSelector("#room h2");
  return { server, enter, page };
}

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
  const { server, page } = await withUsers({ ...phone, locale: "zh-CN" });
  const english = await admin(server, "", { ...phone, locale: "en" });
  for (const view of VIEWS) {
    const section = `#${view.split("/")[0]}`;
    for (const one of [page, english]) {
      await one.goto(one.url().replace(/#.*|$/, `#${view}`));
      await one.waitForSelector(`${section}:not([hidden]) > *`);
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
    const names = ["", "stage", "CDN"];
    const left = said.filter((text) => !/\p{Script=Han}/u.test(text) && !names.includes(text));
    assert.deepEqual(left, [], `${view} is in Chinese`);
  }
});
