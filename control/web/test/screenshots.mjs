// Takes the README's pictures: `node test/screenshots.mjs HTTP PASSWORD FOLDER`, while a crowd watches.
// Says lines as a platform's backend would. Started by scripts/screenshots.
import { existsSync, writeFileSync } from "node:fs";
import { chromium } from "playwright-core";

const [http, password, folder] = process.argv.slice(2);
const places = [process.env.UPROAR_CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser"];
const browser = await chromium.launch({
  executablePath: places.find((path) => path && existsSync(path)),
  args: ["--no-sandbox"],
});
const ROOM = "load"; // the one that uproar-loadgen fills

const PEOPLE = [
  "小鹿",
  "阿北",
  "Mia",
  "夜航船",
  "Jonas",
  "糖炒栗子",
  "Yuki",
  "老王",
  "Lena",
  "南风",
];
const LINES = [
  "来了来了", "前排！", "this is live?? 😮", "画质好清晰", "666666", "哈哈哈哈哈哈",
  "the delay is tiny", "主播好强 👏", "who else is from Berlin", "弹幕护体", "这波操作可以",
  "goosebumps", "再来一首！", "❤️❤️❤️", "下次什么时候播", "first time here, hi all", "泪目",
  "encore! encore!", "太好听了吧", "卡了吗？我这边不卡",
]; // prettier-ignore

async function ask(path, body) {
  const headers = { "content-type": "application/json" };
  const answer = await fetch(http + path, { method: "POST", headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
}

let said = 0;
let talking = true;
async function talk() {
  for (; talking; said += 1) {
    const user = PEOPLE[(said * 7) % PEOPLE.length];
    const gift = said % 40 === 12;
    const text = gift ? "🚀 × 1" : LINES[(said * 11) % LINES.length];
    await ask(`/v1/rooms/${ROOM}/publish`, { user, class: gift ? "gift" : "chat", text });
    await new Promise((next) => setTimeout(next, 120));
  }
}

/** What a page shows now, as WebP, which is a third of a PNG. */
async function take(page, name) {
  const devtools = await page.context().newCDPSession(page);
  const shot = { format: "webp", quality: 82 };
  const { data } = await devtools.send("Page.captureScreenshot", shot);
  const bytes = Buffer.from(data, "base64");
  writeFileSync(`${folder}/${name}.webp`, bytes);
  console.log(`${folder}/${name}.webp  ${Math.round(bytes.length / 1024)} KiB`);
}

async function open(path, options) {
  const page = await (await browser.newContext(options)).newPage();
  await page.goto(http + path);
  return page;
}

const desk = { viewport: { width: 1280, height: 600 }, colorScheme: "dark", locale: "en" };
const phone = { viewport: { width: 390, height: 780 }, colorScheme: "light", locale: "zh-CN" };
const room = await open(`/?room=${ROOM}`, desk);
const small = await open(`/?room=${ROOM}`, { ...phone, hasTouch: true, isMobile: true });
const operator = await open("/admin", { ...desk, viewport: { width: 1280, height: 820 } });
await operator.fill("#log-in [name=password]", password);
await operator.press("#log-in [name=password]", "Enter");
await operator.waitForSelector("#log-in", { state: "hidden" });

const end = talk();
await room.waitForSelector('body[data-state="online"]');
for (let times = 0; times < 57; times += 1) await room.click("#like");
await room.waitForTimeout(40_000); // the operator's charts need some of it to show a line
await room.fill("#text", "hello from the README");
await room.press("#text", "Enter");
await room.waitForTimeout(2_500);
await take(room, "room");
await take(small, "room-phone");
await take(operator, "admin");
talking = false;
await end;
await browser.close();
