/** A real Chromium for a test. */

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { Browser, BrowserContextOptions, chromium, Page } from "playwright-core";
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
  const page = await (await browser.newContext(options)).newPage();
  const errors = ending<string[]>([], (errors) => assert.deepEqual(errors, [], "in the page"));
  page.on("pageerror", (error) => errors.push(`${error.stack}`));
  return page;
}
