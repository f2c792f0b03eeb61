// Takes the README's pictures: `node test/screenshots.mjs CLIENTS HTTP PASSWORD FOLDER`, while a crowd
// watches. Says lines as a platform's backend would. Started by scripts/screenshots, which gives API_KEY.
import { writeFileSync } from "node:fs";
import { WebSocket } from "ws";
import { Uproar } from "../dist/uproar.js";
import { backend } from "./backend.mjs";
import { launch } from "./chromium.mjs";

const [clients, http, password, folder] = process.argv.slice(2);
const browser = await launch();
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

const ask = backend(http);

let said = 0;
let talking = true;
async function talk() {
  for (; talking; said += 1) {
    const user = PEOPLE[(said * 7) % PEOPLE.length];
    const gift = said % 40 === 12;
    const text = gift ? "🚀 × 1" : LINES[(said * 11) % LINES.length];
    await ask("POST", `/v1/rooms/${ROOM}/publish`, { user, class: gift ? "gift" : "chat", text });
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

const READER = "Mia";
const secret = "a password of this run";

/** What was said before the reader looks: to the group `crew`, and to her alone. */
const TALK = [
  ["阿北", "crew", "今晚八点开播，都来吗？"],
  ["Jonas", "crew", "I'm in! Who brings the second camera?"],
  ["Mia", "crew", "我带，还有备用电池 🔋"],
  ["阿北", "crew", "太好了，七点先试音"],
  ["小鹿", "Mia", "昨天那场的回放能发我吗？"],
  ["Yuki", "Mia", "the new overlay looks great ✨"],
  ["Yuki", "Mia", "shall we use it tonight?"],
  ["Jonas", "crew", "Sound check at 7, got it"],
];

/** A conversation list with people, a group, what is unread and what was read; her page. */
async function talkBefore() {
  const names = ["Mia", "阿北", "Jonas", "小鹿", "Yuki"];
  for (const user of names) await ask("POST", "/v1/accounts", { user, password: secret });
  const relations = names.slice(1).map((peer) => ({ user: READER, peer, friends: true }));
  await ask("PUT", "/v1/relations", { relations });
  const crew = {
    key: "crew",
    name: "深夜场 · late crew",
    owner: READER,
    members: names.slice(0, 3),
  };
  const { groups } = await ask("PUT", "/v1/groups", { groups: [crew] });
  const id = groups[0].group;
  for (const [user, to, text] of TALK) {
    const { token } = await ask("POST", "/v1/tokens", { user });
    const live = new Uproar({ url: `ws://${clients}`, token: () => token, inbox: true, WebSocket });
    const conversation = to === "crew" ? `group:${id}` : `user:${to}`;
    const { seq } = await live.conversations.send(conversation, text);
    if (text.includes("second camera")) {
      const thanked = new Promise((next) => live.conversations.on("reacted", next));
      live.conversations.react(conversation, seq, "👍");
      await thanked;
    }
    live.close();
  }
  return id;
}

const desk = { viewport: { width: 1280, height: 600 }, colorScheme: "dark", locale: "en" };
const phone = { viewport: { width: 390, height: 780 }, colorScheme: "light", locale: "zh-CN" };
const room = await open(`/?room=${ROOM}`, desk);
const small = await open(`/?room=${ROOM}`, { ...phone, hasTouch: true, isMobile: true });
const operator = await open("/admin", { ...desk, viewport: { width: 1280, height: 820 } });
await operator.fill("#log-in [name=password]", password);
await operator.press("#log-in [name=password]", "Enter");
await operator.waitForSelector("#log-in", { state: "hidden" });

const crew = await talkBefore();
const reader = await open("/chat", { ...desk, viewport: { width: 1280, height: 620 } });
await reader.fill("#sign-in [name=user]", READER);
await reader.fill("#sign-in [name=password]", secret);
await reader.press("#sign-in [name=password]", "Enter");
await reader.waitForSelector('body[data-caught="up"]');
await reader.click(`#chats li[data-name="group:${crew}"] a`);

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
await take(reader, "chat");
talking = false;
await end;
await browser.close();
