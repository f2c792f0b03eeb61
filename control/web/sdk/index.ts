/** The uproar SDK: live rooms and conversations for browsers and Node. */

export { Uproar } from "./client.js";
export type { Options, State, UproarEvents } from "./client.js";
export { Room } from "./room.js";
export type { RoomEvents } from "./room.js";
export type { Fate, Heard, Said } from "./room_state.js";
export { Conversations, SendRefused } from "./conversations.js";
export type { Content, ConversationsEvents } from "./conversations.js";
export { Account, ApiError } from "./account.js";
export type { Keeper } from "./account.js";
export { Quality } from "./quality.js";
export type * from "./quality.js";
export type { Playing } from "./playing.js";
export { Replay } from "./danmaku.js";
export type { DanmakuLine, Recorded } from "./danmaku.js";
export type * from "./frames.js";
