/** The kept name of a device: in the browser, and what becomes of who is blocked by it. */

import assert from "node:assert/strict";
import { keptDevice } from "../sdk/device.js";
import { State } from "../sdk/index.js";
import { browser } from "./browser.js";
import { client } from "./client.js";
import { isIn, visit } from "./room_page.js";
import { check, Server, sleep, until } from "./server.js";

check("a device is named once and for all, where something can be kept", async () => {
  const kept = new Map<string, string>();
  const give = (store: unknown) =>
    Object.defineProperty(globalThis, "localStorage", { value: store, configurable: true });
  const before = Object.getOwnPropertyDescriptor(globalThis, "localStorage");
  try {
    give({
      getItem: (key: string) => kept.get(key) ?? null,
      setItem: (key: string, value: string) => kept.set(key, value),
    });
    const name = keptDevice();
    assert.match(name, /^[0-9a-f]{32}$/);
    assert.equal(keptDevice(), name);
    kept.set("uproar.device", "x".repeat(100));
    assert.match(keptDevice(), /^[0-9a-f]{32}$/, "what is not ours is replaced");
    give({
      getItem: () => {
        throw new Error("forbidden");
      },
    });
    assert.equal(keptDevice(), "");
    give(undefined);
    assert.equal(keptDevice(), "");
  } finally {
    if (before) Object.defineProperty(globalThis, "localStorage", before);
    else delete (globalThis as { localStorage?: unknown }).localStorage;
  }
});

check("who is blocked by its device ends, and does not try again", async () => {
  const server = await Server.start();
  const states: State["is"][] = [];
  const live = client({ url: server.url, device: "stolen" });
  live.on("state", ({ is }) => states.push(is));
  await until("it is online", () => live.state.is === "online");
  const blocks = [{ kind: "device", value: "stolen" }];
  await server.ask("PUT", "/v1/admin/blocks", { blocks });
  await until("it is closed", () => live.state.is === "closed");
  const why = live.state.is === "closed" ? live.state.why : undefined;
  assert.deepEqual([why?.code, why?.name], [3006, "BANNED"]);
  await sleep(1_500); // longer than the first wait before another try
  assert.deepEqual(states.slice(-2), ["online", "closed"]);
  const again = client({ url: server.url, device: "stolen" });
  await until("it is refused", () => again.state.is === "closed");
});

check("a browser gives the device that it keeps", async () => {
  const server = await Server.start();
  const page = await visit(await browser(), server.http);
  await isIn(page);
  const device = await page.evaluate(() => localStorage.getItem("uproar.device"));
  assert.match(device ?? "", /^[0-9a-f]{32}$/);
  await server.ask("PUT", "/v1/admin/blocks", { blocks: [{ kind: "device", value: device }] });
  await page.waitForFunction(() => document.body.dataset.state === "closed");
  await page.reload();
  await page.waitForFunction(() => document.body.dataset.state === "closed");
});
