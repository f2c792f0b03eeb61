/** A real Chromium for a test. */

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
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
  // A page that was put in the place of the server's has no address, and may reach none that is
  // local otherwise.
  if (process.env.UPROAR_DIST) flags.push("--disable-features=LocalNetworkAccessChecks");
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
  if (process.env.UPROAR_DIST) {
    await page.route("**/web/*", fromDist);
    await page.route(isPage, pageFromDist);
  }
  return page;
}

/** Pages that are worked on: `UPROAR_DIST=1` takes their scripts from dist, not from the server. */
async function fromDist(route: Route): Promise<void> {
  const name = new URL(route.request().url()).pathname.split("/").at(-1)!;
  return route.fulfill({ path: `dist/${name}` });
}

/** The server's pages, by their paths. */
const PAGES: Record<string, string> = { "/": "room", "/chat": "chat", "/admin": "admin" };
/** What the server writes into a page. */
const SETTINGS = /<script id="settings"[^]*?<\/script>/;

const isPage = (url: URL) => url.pathname in PAGES;

/** The same of a page itself: its headers are the server's, and so are the settings in it. */
async function pageFromDist(route: Route): Promise<void> {
  if (route.request().resourceType() !== "document") return route.fallback();
  const response = await route.fetch();
  const served = await response.text();
  const page = readFileSync(`dist/${PAGES[new URL(route.request().url()).pathname]}.html`, "utf8");
  // A page of another site has no such settings: it is not ours.
  const settings = served.match(SETTINGS)?.[0];
  if (page.match(SETTINGS) && !settings) return route.fulfill({ response, body: served });
  return route.fulfill({ response, body: page.replace(SETTINGS, () => settings!) });
}
