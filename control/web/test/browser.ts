/** A real Chromium for a test. */

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import {
  Browser,
  BrowserContext,
  BrowserContextOptions,
  chromium,
  Page,
  Route,
} from "playwright-core";
import { ending } from "./server.js";

const places = [process.env.UPROAR_CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser"];
const program = places.find((path) => path && existsSync(path));

/** One that ends with the test. */
export async function browser(): Promise<Browser> {
  if (!program) throw new Error("there is no Chromium; install it, or name it in UPROAR_CHROMIUM");
  const flags = ["--no-sandbox", "--disable-background-timer-throttling"];
  const launched = await chromium.launch({ executablePath: program, args: flags });
  return ending(launched, (one) => one.close());
}

/** An empty page; what goes wrong in it fails the test. */
export async function emptyPage(browser: Browser, options?: BrowserContextOptions): Promise<Page> {
  return contextPage(await browser.newContext(options));
}

/** The same, of somebody who has been here before. */
export async function contextPage(context: BrowserContext): Promise<Page> {
  const page = await context.newPage();
  const errors = ending<string[]>([], (errors) => assert.deepEqual(errors, [], "in the page"));
  page.on("pageerror", (error) => errors.push(`${error.stack}`));
  // It takes the browser's cache away, so it is not done where it is not asked for.
  if (process.env.UPROAR_DIST) await page.route("**/web/*", fromDist);
  return page;
}

/** Pages that are worked on: `UPROAR_DIST=1` takes their scripts from dist, not from the server. */
async function fromDist(route: Route): Promise<void> {
  const name = new URL(route.request().url()).pathname.split("/").at(-1)!;
  return route.fulfill({ path: `dist/${name}` });
}
