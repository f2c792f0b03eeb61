/** The operator's page of a server, for the tests of it. */

import { Page } from "playwright-core";
import { Uproar } from "../sdk/index.js";
import { browser, emptyPage } from "./browser.js";
import { client } from "./client.js";
import { Server } from "./server.js";

/** A page that is logged in. */
export async function admin(server: Server, view = ""): Promise<Page> {
  const page = await emptyPage(await browser());
  page.on("dialog", (dialog) => void dialog.accept());
  await page.goto(`${server.http}/admin${view}`);
  await page.waitForSelector("#log-in[open]");
  await page.fill("#log-in [name=password]", server.password);
  await page.press("#log-in [name=password]", "Enter");
  await page.waitForSelector("#log-in", { state: "hidden" });
  return page;
}

export function viewer(server: Server, name: string): Uproar {
  const live = client({ url: server.url });
  live.room(name);
  return live;
}
