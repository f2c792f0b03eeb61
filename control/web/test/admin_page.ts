/** The operator's page of a server, for the tests of it. */

import { BrowserContextOptions, Page } from "playwright-core";
import { Uproar } from "../sdk/index.js";
import { browser, emptyPage } from "./browser.js";
import { client } from "./client.js";
import { Server } from "./server.js";

/** A page that is logged in, and says yes to whatever it asks. */
export async function admin(
  server: Server,
  view = "",
  options?: BrowserContextOptions,
): Promise<Page> {
  const page = await emptyPage(await browser(), options);
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

/** Fills in a form by the text of its button, sends it, and returns what came of it. */
export async function act(
  page: Page,
  button: string,
  fields: Record<string, string>,
): Promise<string> {
  const form = page.locator("form.action", {
    has: page.locator(`button[type=submit]:text-is("${button}")`),
  });
  for (const [name, value] of Object.entries(fields)) {
    const field = form.locator(`[name=${name}]`);
    const kind = await field.evaluate((one) => (one as HTMLInputElement).type);
    if (kind === "select-one") await field.selectOption(value);
    else if (kind === "checkbox") await field.setChecked(value === "on");
    else await field.fill(value);
  }
  await form.locator("button[type=submit]").click();
  const told = form.locator("output:not(:empty)");
  await told.waitFor();
  return (await told.textContent()) ?? "";
}
