/** The room page of a server, for the tests of it. */

import { Browser, Page } from "playwright-core";
import { emptyPage } from "./browser.js";
import { client } from "./client.js";
import { Server, Wire } from "./server.js";

/** A page of a server; what goes wrong in it fails the test. */
export async function visit(
  chromium: Browser,
  url: string,
  options: { width?: number; locale?: string; wire?: Wire } = {},
): Promise<Page> {
  const viewport = { width: options.width ?? 1280, height: 720 };
  const page = await emptyPage(chromium, { viewport, locale: options.locale });
  if (options.wire) {
    const { host } = new URL(options.wire.url);
    await page.route("**/v1/connect", (route) => route.fulfill({ json: { addresses: [host] } }));
  }
  await page.goto(url);
  return page;
}

export const isIn = (page: Page) => page.waitForSelector('body[data-state="online"]');
export const lines = (page: Page) =>
  page.$$eval("#lines li:not(.note)", (items) => items.map((item) => item.textContent ?? ""));

export async function say(page: Page, text: string): Promise<void> {
  await page.fill("#text", text);
  await page.press("#text", "Enter");
}

/** Another client of the room. */
export function other(server: Server, name = "lobby", token = "") {
  const heard: string[] = [];
  const room = client({ url: server.url, token }).room(name);
  room.on("message", ({ text }) => heard.push(text ?? ""));
  return { room, heard };
}
