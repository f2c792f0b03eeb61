/** What the room page says, in English and Chinese. */

import { language } from "../language.js";

const ENGLISH = {
  viewers: "watching",
  fps: "frames a second of the bullet comments, median of the last ten seconds",
  placeholder: "Say something",
  followersOnly: (seconds: number) =>
    seconds === 0
      ? "Followers only"
      : `Followers only, for ${Math.ceil(seconds / 60)} min or longer`,
  send: "Send",
  wait: (seconds: number) => `${seconds} s`,
  like: "Like",
  gift: "Give a rose",
  flying: "Danmaku",
  newest: (count: number) => `${count} new`,
  connecting: "Connecting…",
  waiting: (seconds: number) => `The connection is gone. Again in ${seconds} s`,
  now: "Now",
  closed: (why: string) => `Not connected: ${why}`,
  retry: "Connect again",
  gap: (count: number) => `${count} messages were missed here`,
  gapUnknown: "Messages may have been missed here",
  onlyYou: "only you see this: the room was too busy",
  notSent: "not sent",
  left: "You are not in this room any more",
  code: (code: number, seconds: number): string | undefined =>
    ({
      2013: "You may not speak here now",
      2024: "Nobody may speak here now",
      2025:
        "The room has just heard this; say something else" +
        (seconds ? `, or wait ${seconds} s` : ""),
      2026: "This poll takes no more answers",
      2027: "You have answered this poll; the first answer counts",
      2034: "This text is not allowed here",
      2035: `Only followers may speak here${seconds ? `; you may in ${seconds} s` : ""}`,
    })[code],
  held: "not shown to viewers yet",
  close: "Close",
  notCounted: "The answer was not counted; try again",
  pollVotes: (count: number) => `${count.toLocaleString()} answers`,
  pollOver: (count: number) => `The result, ${count.toLocaleString()} answers`,
  entered: (users: string[], more: number) =>
    users.length === 0
      ? `${more} more came in`
      : `${users.join(", ")}${more > 0 ? ` and ${more} more` : ""} came in`,
  refused: (text: string) => `Refused: ${text}`,
  tooLong: (bytes: number) => `Too long: ${bytes} bytes are allowed`,
  signIn: "Sign in",
  user: "Name",
  password: "Password",
  play: "Play",
  pause: "Pause",
  seek: "Moment",
  speed: "Speed",
};

type Words = typeof ENGLISH;

const CHINESE: Words = {
  viewers: "人在看",
  fps: "弹幕每秒帧数（最近十秒的中位数）",
  placeholder: "说点什么",
  followersOnly: (seconds) =>
    seconds === 0 ? "仅关注者可发言" : `关注满 ${Math.ceil(seconds / 60)} 分钟才能发言`,
  send: "发送",
  wait: (seconds) => `${seconds} 秒`,
  like: "点赞",
  gift: "送一朵玫瑰",
  flying: "弹幕",
  newest: (count) => `${count} 条新消息`,
  connecting: "正在连接…",
  waiting: (seconds) => `连接已断开，${seconds} 秒后重连`,
  now: "立即重连",
  closed: (why) => `未连接：${why}`,
  retry: "重新连接",
  gap: (count) => `此处错过了 ${count} 条消息`,
  gapUnknown: "此处可能错过了一些消息",
  onlyYou: "房间太热闹，仅自己可见",
  notSent: "未发送",
  left: "您已不在此房间",
  code: (code, seconds) =>
    ({
      2013: "您暂时不能发言",
      2024: "现在全员禁言",
      2025: "刚刚有人说过同样的话，换一句吧" + (seconds ? `，或等待 ${seconds} 秒` : ""),
      2026: "投票已结束",
      2027: "您已投过票，以第一次为准",
      2034: "内容不允许在此发布",
      2035: "仅关注者可发言" + (seconds ? `，您还需等待 ${seconds} 秒` : ""),
    })[code],
  held: "观众尚未看到",
  close: "关闭",
  notCounted: "未计入，请重试",
  pollVotes: (count) => `${count.toLocaleString()} 票`,
  pollOver: (count) => `投票结果，共 ${count.toLocaleString()} 票`,
  entered: (users, more) =>
    users.length === 0
      ? `又有 ${more} 人进入`
      : `${users.join("、")}${more > 0 ? ` 等 ${more + users.length} 人` : ""}进入`,
  refused: (text) => `被拒绝：${text}`,
  tooLong: (bytes) => `太长了：最多 ${bytes} 字节`,
  signIn: "登录",
  user: "用户名",
  password: "密码",
  play: "播放",
  pause: "暂停",
  seek: "时间点",
  speed: "倍速",
};

export const words: Words = language === "zh" ? CHINESE : ENGLISH;
