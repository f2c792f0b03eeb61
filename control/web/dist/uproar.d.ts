declare class Emitter<Events> {
	private readonly listeners;
	/** Calls `listener` at every such event, until the function that is returned is called. */
	on<Name extends keyof Events>(name: Name, listener: (about: Events[Name]) => void): () => void;
	/** Calls `listener` at the next one alone. */
	once<Name extends keyof Events>(name: Name, listener: (about: Events[Name]) => void): () => void;
	protected emit<Name extends keyof Events>(name: Name, about: Events[Name]): void;
}
/**
 * What the server tells, as types: the fields of uproar.proto that a user of the SDK meets.
 *
 * Owns no code. Times are milliseconds since 1970, an epoch or id is 16 hexadecimal digits.
 */
/** What is shed first when a room is busy: `like`, then `chat`, then `gift`; `system` never is. */
export type Class = "chat" | "system" | "gift" | "like";
/** A place in a room's stream. An epoch is one life of the room: compare it, do not order it. */
export interface Cursor {
	epoch: string;
	seq: number;
}
/** One message of a room. */
export interface RoomMessage {
	/** Rises by one with each message that the room admits. */
	seq: number;
	class: Class | "unknown";
	user: string;
	time_ms: number;
	/** One of the two is there, unless it is `gone` or has a `combo`. */
	text?: string;
	data?: Uint8Array;
	client_msg_id: Uint8Array;
	/** It was recalled: its place is left, its content is not. */
	gone: boolean;
	/** Of a gift with a name; such a one may have neither `text` nor `data`. */
	combo?: Combo;
}
/** A user's gifts of one name, one soon after the other: show them as one line that counts up. */
export interface Combo {
	gift: string;
	/** How many this message brings. */
	count: number;
	/** How many there are of the combo with it. */
	total: number;
	/** The same in all messages of a combo, and in no others of this life of the room. */
	combo: number;
}
export interface Welcome {
	/** Names the connection in the server's logs: show it where somebody reports a fault. */
	session: string;
	user: string;
	guest: boolean;
	ping_every_s: number;
	server_time_ms: number;
	payload_bytes_max: number;
	rooms_max: number;
	generation: string;
}
export interface Joined extends Cursor {
	room: string;
	messages: RoomMessage[];
	attributes: Record<string, string>;
	viewers: number;
	likes: number;
	resumed: boolean;
	slow_mode_s: number;
	/** Chat is for who follows the room for so many seconds; absent: for everybody. */
	followers_only_s?: number;
	attributes_version: number;
	/** Messages before the cursor that were recalled. */
	recalled: number[];
	pinned?: RoomMessage;
	polls: Poll[];
}
/** Messages that were recalled: take them off the screen. */
export interface Recalled {
	room: string;
	epoch: string;
	seqs: number[];
	/** Not empty: besides `seqs` all that this user has said up to `up_to_seq`. */
	user: string;
	up_to_seq: number;
}
/** A change of a room's attributes. */
export interface Attributes {
	room: string;
	epoch: string;
	version: number;
	from_version: number;
	set: Record<string, string>;
	removed: string[];
	/** `set` is all there is. */
	whole: boolean;
}
/** Who has come into a room; `more`: others, without a name. */
export interface Entered {
	room: string;
	epoch: string;
	users: string[];
	more: number;
}
/** Messages that viewers will see after the room's delay. */
export interface Held {
	room: string;
	epoch: string;
	messages: RoomMessage[];
}
export interface Pinned {
	room: string;
	epoch: string;
	message?: RoomMessage;
}
/** A poll of a room as it stands. */
export interface Poll {
	room: string;
	poll: number;
	question: string;
	options: string[];
	ends_ms: number;
	/** Answers, by option. */
	votes: number[];
	/** No more are counted: `votes` is exact and the last word. */
	over: boolean;
}
/** What became of an answer to a poll; `code` 0: it is counted. */
export interface Voted {
	room: string;
	poll: number;
	option: number;
	code: number;
	retry_after_ms: number;
}
export type Outcome = "accepted" | "merged" | "shed" | "refused" | "expired" | "unknown";
export interface Verdict {
	client_msg_id: Uint8Array;
	outcome: Outcome;
	seq: number;
	/** A number of PROTOCOL.md's table of codes; 0: none. */
	code: number;
	retry_after_ms: number;
	/** What the platform says of its refusal, for people; else empty. */
	text: string;
}
export interface Gap {
	room: string;
	epoch: string;
	/** First and last missing; 0 and 0: unknown. */
	from_seq: number;
	to_seq: number;
	reason: "slow" | "history" | "epoch" | "lost" | "unknown";
}
/** What became of reports of the quality of a stream. */
export interface Reported {
	id: number;
	/** Counted; and counted before. */
	taken: number;
	repeated: number;
	/** When the next one is due. */
	next_ms: number;
	/** Not taken: why; 0: they are. */
	code: number;
	text: string;
}
export interface ServerError {
	code: number;
	name: string;
	text: string;
	retry: boolean;
	retry_after_ms: number;
	/** Empty where it is about no room. */
	room: string;
	client_msg_id: Uint8Array;
}
export type MessageKind = "message" | "recall" | "edit" | "pin" | "unpin" | "notice" | "reactions" | "unknown";
/** A reference to a file that is kept elsewhere. */
export interface FileReference {
	url: string;
	bytes: number;
	sha256: Uint8Array;
	media_type: string;
	name: string;
	thumbnail_url: string;
}
/** Something about a group, written by the server into its log. */
export interface Notice {
	what: string;
	users: string[];
	more: number;
	text: string;
	until_ms: number;
}
/** One message of a conversation. */
export interface StoredMessage {
	/** Counted from 1, without holes. */
	seq: number;
	user: string;
	time_ms: number;
	client_msg_id: Uint8Array;
	kind: MessageKind;
	text: string;
	data: Uint8Array;
	file?: FileReference;
	target_seq: number;
	gone: boolean;
	edited_seq: number;
	notice?: Notice;
	msg_id: string;
	reactions: {
		reaction: string;
		count: number;
	}[];
	own_reactions: string[];
	pinned_seq: number;
}
export interface Send {
	conversation: string;
	client_msg_id: Uint8Array;
	kind: MessageKind;
	text?: string;
	data?: Uint8Array;
	file?: Partial<FileReference>;
	target_seq?: number;
}
export interface Sent {
	conversation: string;
	client_msg_id: Uint8Array;
	seq: number;
	time_ms: number;
	generation: string;
	code: number;
	retry: boolean;
	retry_after_ms: number;
	msg_id: string;
	text: string;
}
export interface ConversationState {
	conversation: string;
	head_seq: number;
	floor_seq: number;
	read_seq: number;
	unread: number;
	peer_read_seq: number;
	peer_delivered_seq: number;
	left: boolean;
	changed_ms: number;
	group?: {
		name: string;
		members: number;
		role: string;
		muted_all: boolean;
		muted_until_ms: number;
	};
	pinned: number[];
	silent: boolean;
}
export interface RelationState {
	user: string;
	friend: boolean;
	asked: boolean;
	asking: boolean;
	blocks: boolean;
	follows: boolean;
	changed_ms: number;
}
export interface Settings {
	private_read: boolean;
	hide_last_seen: boolean;
	changed_ms: number;
}
export interface Synced {
	generation: string;
	cursor: string;
	done: boolean;
	conversations: ConversationState[];
	relations: RelationState[];
	settings?: Settings;
	relations_anew_ms: number;
}
interface Range$1 {
	conversation: string;
	from_seq: number;
	to_seq: number;
}
export interface Pulled {
	id: number;
	parts: {
		conversation: string;
		messages: StoredMessage[];
	}[];
	rest: Range$1[];
}
export interface UserCursor {
	user: string;
	read_seq: number;
	delivered_seq: number;
}
export interface Reacted {
	conversation: string;
	seq: number;
	reaction: string;
	remove: boolean;
	code: number;
	retry: boolean;
	retry_after_ms: number;
}
export interface UserPresence {
	user: string;
	online: boolean;
	last_seen_ms: number;
}
export interface ConversationsEvents {
	/** The next message of a conversation: each seq once, in order, what was missed included. */
	message: {
		conversation: string;
		message: StoredMessage;
	};
	/** A conversation changed: unread, members, pins and so on, as a sync tells it. */
	conversation: ConversationState;
	/** How far its users have read and received. */
	cursors: {
		conversation: string;
		users: UserCursor[];
	};
	/** How many members of a group have read messages of this user. */
	receipts: {
		conversation: string;
		counts: {
			seq: number;
			readers: number;
		}[];
	};
	reacted: Reacted;
	/** What the user and another one are to each other. */
	related: RelationState;
	settings: Settings;
	presence: UserPresence[];
	/** Typing and the like: never stored. */
	signal: {
		conversation: string;
		name: string;
		data: Uint8Array;
		user: string;
	};
	/** The store is another one: forget everything, it comes anew. */
	anew: undefined;
	/** Nothing more is missed of what there was when the device connected. */
	caughtUp: undefined;
}
/** What a message holds. */
export interface Content {
	text?: string;
	data?: Uint8Array;
	file?: Partial<FileReference>;
}
/** Why nothing was stored. */
export declare class SendRefused extends Error {
	readonly sent: Sent;
	constructor(sent: Sent);
	/** A number of PROTOCOL.md's table of codes. */
	get code(): number;
}
export declare class Conversations extends Emitter<ConversationsEvents> {
	private readonly host;
	private readonly answers;
	private readonly olders;
	private watched;
	/**
	 * Sends a message to `user:NAME` or `group:ID`. Kept and sent again until it is answered, over
	 * reconnects too: the answer comes after it was stored, or says why it will not be. `id`: of
	 * {@link newId}, for who wants to know the message when it comes (its `client_msg_id`).
	 */
	send(conversation: string, content: string | Content, id?: Uint8Array<ArrayBufferLike>): Promise<Sent>;
	/** An id for {@link send}, never used again. */
	newId(): Uint8Array;
	/**
	 * What was said before `before_seq`: `count` messages and events at most, rising by seq; empty
	 * where there is nothing before. Those that came once are not handed on by `message`.
	 */
	older(conversation: string, before_seq: number, count: number): Promise<StoredMessage[]>;
	/** Erases a message of one's own for everybody. */
	recall(conversation: string, seq: number): Promise<Sent>;
	/** Replaces the text of a message of one's own. */
	edit(conversation: string, seq: number, text: string): Promise<Sent>;
	pin(conversation: string, seq: number): Promise<Sent>;
	unpin(conversation: string, seq: number): Promise<Sent>;
	private say;
	/** The user has read everything up to there. */
	markRead(conversation: string, seq: number): void;
	/** The user reacts to a message; told again until it is answered by `reacted`. */
	react(conversation: string, seq: number, reaction: string, remove?: boolean): void;
	/** Typing and the like, to whoever is online. `false`: nobody was told. */
	signal(conversation: string, name: string, data?: Uint8Array<ArrayBuffer>): boolean;
	/** Whose presence is told, by name; replaces the list, and holds over reconnects. */
	watch(users: string[]): void;
	/** How far a conversation was handed on, and how far its user has read it. */
	place(conversation: string): {
		last_seq: number;
		read_seq: number;
	};
	/** Sends that have no answer yet. */
	get unanswered(): number;
	private tell;
	private answered;
}
/** Something said in the room by this client. */
export interface Said {
	id: Uint8Array;
	class: Class;
	text?: string;
	data?: Uint8Array;
	/** Class `gift`: its name, and how many. */
	gift?: string;
	count?: number;
}
/**
 * What became of it. `lost`: the connection broke before the room's verdict came. `offline`: it was
 * never sent, for there was no connection.
 */
export interface Fate extends Said {
	outcome: Outcome | "lost" | "offline";
	seq: number;
	code: number;
	retry_after_ms: number;
	/** What the platform says of its refusal, for people; else empty. */
	reason: string;
}
/** A message as it is handed on. */
export interface Heard extends RoomMessage {
	/** This client said it. */
	own: boolean;
	/** It was there when the room was joined, not said since. */
	history: boolean;
}
export interface RoomEvents {
	/** The room as it is: at every join, also after a reconnect. */
	joined: Joined;
	/** The next message, each once and in order. `own`: this client said it. */
	message: Heard;
	/** Messages that this client will not see, and why. */
	gap: Gap;
	/** Viewers and likes as they are now. */
	count: {
		viewers: number;
		likes: number;
	};
	/** This client has said something: show it at once, its verdict follows. */
	said: Said;
	/** What became of it. `shed` and `expired`: show it to its own user alone, and say so. */
	verdict: Fate;
	/** Messages that a moderator took back: take them off the screen. */
	recalled: {
		seqs: number[];
	};
	/** The room's attributes as they are now. */
	attributes: {
		attributes: Record<string, string>;
		version: number;
	};
	/** The pinned message as it is now; without one nothing is pinned. */
	pinned: {
		message?: RoomMessage;
	};
	/** A poll as it stands: at its beginning, once a second while answers come, at its end. */
	poll: Poll;
	/** Who has come in, in rooms that tell it; `more`: others, without a name. */
	entered: {
		users: string[];
		more: number;
	};
	/** To a moderator, in a room with a delay: what viewers will see unless it is recalled before. */
	held: {
		messages: RoomMessage[];
	};
	/** What became of this client's answer to a poll; `code` 0: it is counted. */
	voted: Voted;
	/** The room was closed, or the user was removed (`code`); 0: it was asked for. */
	left: {
		code: number;
	};
	/** The room cannot be joined, or something about it was refused. */
	error: ServerError;
}
export declare class Room extends Emitter<RoomEvents> {
	readonly name: string;
	private readonly host;
	/** Seconds between two messages of one user; 0: no slow mode. */
	slowMode_s: number;
	/** Chat is for who follows the room for so many seconds; undefined: for everybody. */
	followersOnly_s?: number;
	private readonly verdicts;
	get viewers(): number;
	get likes(): number;
	/** Free text of the application, set by whoever runs the room. */
	get attributes(): Record<string, string>;
	/** The pinned message. */
	get pinned(): RoomMessage | undefined;
	/** The room's polls, the newest last. */
	get polls(): Poll[];
	get joined(): boolean;
	/**
	 * Says something to everybody in the room. The answer is what the room decided: it never fails,
	 * it says `refused` with a `code`, `shed`, `lost`, and so on. Without a connection it waits 10 s
	 * for one, then it is `offline`.
	 */
	publish(content: string | Uint8Array, options?: {
		class?: Class;
	}): Promise<Fate>;
	/**
	 * Gives `count` gifts of this name (1 to 32 bytes of UTF-8): the room shows gifts of one user and
	 * one name as a combo, that of the message (`message.combo`). Needs a token that permits gifts.
	 * `merged`: they are in the total of a message that others of the combo are in too.
	 */
	sendGift(name: string, count?: number): Promise<Fate>;
	private say;
	/** Likes it. They are added up and told once a second; the sum comes back by `count`. */
	like(count?: number): void;
	/**
	 * Answers a poll; what becomes of it comes by `voted`. The first answer of a user counts. Where
	 * the connection breaks before, it is given again. `false`: another one is under way.
	 */
	vote(poll: number, option: number): boolean;
	/** Leaves it: nothing more comes. */
	leave(): void;
	private judged;
}
export type Given<T> = T | (() => T | Promise<T>);
export interface Options {
	/**
	 * Where to connect: `ws://host:port` or `wss://...`, one or several, or a function that tells. Of
	 * several the next one is tried after each failure.
	 */
	url: Given<string | string[]>;
	/** Who connects: a token, or a function that gets one whenever one is needed. Absent: a guest. */
	token?: Given<string>;
	/** What goes over the wire: protobuf (smaller, the default), or JSON (for developer tools). */
	variant?: "proto" | "json";
	/** Asks for the user's conversations; needs a token. */
	inbox?: boolean;
	/**
	 * Of a conversation that this client has nothing of yet, so many of the newest messages come by
	 * themselves, those before by {@link Conversations.older}. Absent: all there are.
	 */
	recent?: number;
	/**
	 * A name of this device, 64 bytes at most: who is kept out may be so by it. Absent: a random one
	 * that the browser keeps (`localStorage`, `uproar.device`); none in Node. Empty: none, and
	 * nothing is kept.
	 */
	device?: string;
	/** A WebSocket class, where there is none (Node before version 22: `ws`). */
	WebSocket?: typeof WebSocket;
}
/** What the connection does now. */
export type State = {
	is: "connecting";
} | {
	is: "online";
	welcome: Welcome;
}
/** The connection is gone; `why` as far as the server told, `retryAt_ms` as `Date.now()` does. */
 | {
	is: "waiting";
	retryAt_ms: number;
	why?: ServerError;
}
/** It ended for good: it was asked for, or `why`. */
 | {
	is: "closed";
	why?: ServerError;
};
export interface UproarEvents {
	state: State;
	/** The server refused something that is about no room. */
	error: ServerError;
	/** The operator tells something to everybody who is in a room. */
	announced: RoomMessage;
}
/**
 * A live client. Three lines make a page live:
 *
 * ```js
 * import { Uproar } from "/sdk/uproar.js";
 * const room = new Uproar({ url: "ws://127.0.0.1:7400" }).room("lobby");
 * room.on("message", (message) => console.log(message.user, message.text));
 * ```
 */
export declare class Uproar extends Emitter<UproarEvents> {
	private readonly options;
	/** The user's conversations; of use with `inbox: true`. */
	readonly conversations: Conversations;
	/** What the connection does now. */
	state: State;
	private readonly rooms;
	/** Rooms whose join was refused for now: when each is tried again. */
	private readonly rejoin;
	private readonly backoff;
	private link?;
	private waiting?;
	private dueTimer?;
	private tries;
	private refusedTokens;
	private reports;
	/** Who waits for what becomes of a report. */
	private readonly reporting;
	private readonly ids;
	private readonly wake;
	constructor(options: Options);
	/** The room of that name: joined now, and again after each reconnect, until it is left. */
	room(name: string): Room;
	/**
	 * Tells the server how streams play, over the connection: reports as quality.proto has them (a
	 * {@link Quality} makes them). What became of them; `undefined` where there is no connection, or
	 * no answer: then it is told over HTTP.
	 */
	report(reports: object[]): Promise<Reported | undefined>;
	/** Tries again now rather than when the wait is over; looks whether a connection still stands. */
	reconnect(): void;
	/** Ends the connection for good. */
	close(): void;
	private connect;
	private isClosed;
	private open;
	private after;
	/** Ends a connection that is of no use; what its server says to that is not waited for. */
	private drop;
	private lost;
	/** Whether another try may go better, after an error that ended a connection. */
	private mayHelp;
	private wait;
	private end;
	private enter;
	/** The network is said to be back: what waits need not, and what stands is tried. */
	private probe;
	private beat;
	private heard;
	private received;
	private reported;
	/** No answer comes any more. */
	private unanswered;
	private refused;
	/** The server goes away, and says where to (S-23). */
	private move;
	/**
	 * Asks for a token and puts it in the place of the connection's (S-38): by itself when that ends
	 * soon, and for whoever knows that another one says more. Nothing where the token is no function.
	 */
	renew(): Promise<void>;
	private leave;
	private tell;
	/** Sends what is due, and comes back when more is. */
	private pump;
	/** 12 random bytes and a number: never used again. */
	private newId;
}
/**
 * A user's login: gets tokens for {@link Uproar}, and new ones before they end.
 *
 * Owns the refresh token, which is used once each (a lost answer is asked for again with the same
 * one). Keeps it where it is told to; by default nowhere, so a reload asks for the password again.
 */
/** Where a login outlives the page, as `sessionStorage` does. */
export interface Keeper {
	getItem(key: string): string | null;
	setItem(key: string, value: string): void;
	removeItem(key: string): void;
}
/** What the server refused over HTTP. */
export declare class ApiError extends Error {
	readonly status: number;
	/** A number of PROTOCOL.md's table of codes; 0: the answer had none. */
	readonly code: number;
	constructor(status: number, 
	/** A number of PROTOCOL.md's table of codes; 0: the answer had none. */
	code: number, text: string);
}
export declare class Account {
	private readonly base;
	private readonly keeper?;
	private tokens?;
	/** The access token is replaced when it is good for less than this. */
	private spare_ms;
	private refreshing?;
	/** `base`: where the HTTP interface is; by default where the page came from. */
	constructor(base?: string, keeper?: Keeper | undefined);
	/** The user's name, once logged in. */
	get user(): string | undefined;
	/** Makes an account, where the server lets everybody. */
	register(user: string, password: string): Promise<void>;
	logIn(user: string, password: string, device?: string): Promise<void>;
	/** Ends this log-in, here and on the server. */
	logOut(): Promise<void>;
	/**
	 * A token that is good for a while, as {@link Options.token} wants it; empty where nobody has
	 * logged in.
	 */
	token(): Promise<string>;
	/**
	 * Gets a new token now, which says what is true now (whom the user follows). A connection has it
	 * by {@link Uproar.renew}.
	 */
	refresh(): Promise<void>;
	/** Whoever asks meanwhile gets the same one: a refresh token is good for one use. */
	private turned;
	private turn;
	/** A request in the user's name. */
	ask(method: string, path: string, body?: object): Promise<unknown>;
	private keep;
	private forget;
	private post;
	private request;
}
/**
 * What a video element shows of itself, as numbers: when its first frame came, when it stood still
 * and for how long, what is in its buffer.
 *
 * Owns the listeners on one element. Time is the wall's, not the video's: at double speed a second
 * is a second.
 */
export declare class Playing {
	private readonly video;
	private readonly quality;
	private state;
	private since_ms;
	/** When its user wanted it; `undefined`: when it is asked to play. */
	private wished_ms?;
	private stallToldAfter?;
	private stall_ms;
	private frames;
	private dropped;
	private bytes;
	private measured_ms;
	private shown;
	private readonly timer;
	private readonly listeners;
	/** The browser plays nothing by itself: a start is counted from the user's click on. */
	blocked(): void;
	/** It cannot be played, or no longer: for who knows it sooner than the element does. */
	failed(): void;
	/** Measures no more. */
	stop(): void;
	/** Its user goes. */
	exit(): void;
	private wanted;
	private plays;
	/** Where all that a seek needs was there, the element tells of nothing but its end. */
	private goesOn;
	private waits;
	private enter;
	/** Adds up the time since it was last added up, as what it was. */
	private count;
	/** The steps of a start, where the browser tells them, and as far as they fit into the whole. */
	private steps;
	private look;
}
/** Counted since the session began; none ever goes back. */
export type QualityTotal = "stalls" | "stall_ms" | "played_ms" | "frames" | "frames_dropped" | "attempts" | "exits_before_start" | "start_failures" | "playback_failures" | "bytes" | "reconnects";
/** Measured since the report before: milliseconds, kbit/s, frames a second, lines. */
export type QualityMetric = "ltc" | "bl" | "br" | "mtp" | "rtt" | "fps" | "height" | "stall";
/** How long a start took, step by step, in milliseconds. */
export interface QualityStart {
	dns?: number;
	connect?: number;
	ttfb?: number;
	decode?: number;
	msd?: number;
}
/** Where and how it plays: 64 bytes each at most; absent: not known. */
export interface QualityOptions {
	room?: string;
	cdn?: string;
	region?: string;
	isp?: string;
	/** By default `web`. */
	platform?: string;
	/** Where the HTTP interface is; by default where the page came from. */
	base?: string;
	/** Whose connection it is told over, where that one is online; over HTTP else. */
	live?: () => Uproar | undefined;
	/** Who reports over HTTP; absent or empty: a guest. */
	token?: () => string | Promise<string>;
}
export declare class Quality {
	private readonly options;
	/** Names the session. */
	readonly sid: string;
	private readonly since_ms;
	private readonly totals;
	private samples;
	private values;
	private starts;
	private batch;
	/** The server takes none over connections. */
	private overHttp;
	/** It has answered one. */
	private answered;
	private unanswered;
	/** As of the last report: a page that goes waits for no new one. */
	private token;
	private playing?;
	private readonly timer;
	private readonly hidden;
	constructor(options?: QualityOptions);
	add(total: QualityTotal, by?: number): void;
	sample(metric: QualityMetric, value: number): void;
	started(start: QualityStart): void;
	/**
	 * Measures a video element from now on: starts, stalls, what is in its buffer, dropped frames,
	 * its bitrate where the browser tells it. Its user wants it to play when this is called.
	 * `errors`: whether an error of the element is the end; else {@link Playing.failed} says so.
	 */
	watch(video: HTMLVideoElement, options?: {
		errors: boolean;
	}): Playing;
	/**
	 * Tells what there is now. It comes by itself every ten seconds, after a start that failed, in a
	 * stall of more than two seconds, and when the page is hidden.
	 */
	report(): Promise<void>;
	/** Ends the session: what there is, is told; nothing after it. */
	close(): void;
	/** The page is hidden and may not come back. */
	private leave;
	/** `last`: the page may be gone before the answer. */
	private send;
	/** What became of them; `undefined`: they go over HTTP. */
	private overConnection;
	private next;
}
/** One line. */
export interface DanmakuLine {
	/** From the start of the recording, or of the video. */
	offset_ms: number;
	class: Class | "unknown";
	user: string;
	/** One of the two is there, unless it has a `combo`. */
	text?: string;
	data?: Uint8Array;
	/** 0 to 10: what is shown first where there is no room for all. */
	weight: number;
	/** Names the line within its recording. */
	seq: number;
	/** Of a gift with a name; such a one may have neither `text` nor `data`. */
	combo?: Combo;
}
/** A recording of a room (the latest one, where none is named), or a video. */
export type Recorded = {
	room: string;
	recording?: string;
} | {
	video: string;
};
export declare class Replay {
	readonly of: Recorded;
	private readonly base;
	private index?;
	private index_ms;
	private indexing?;
	private notBefore_ms;
	private readonly held;
	private readonly asked;
	/** `base`: where the HTTP interface is; by default where the page came from. */
	constructor(of: Recorded, base?: string);
	/** Reads what there is. Refused: an {@link ApiError} tells why. */
	open(): Promise<void>;
	/** Up to where there are lines; 0: there are none. */
	get length_ms(): number;
	/** When offset 0 was, as `Date.now()` does; 0 for a video. */
	get start_unix_ms(): number;
	/** Whether the lines of a moment are here, or there are none. */
	has(at_ms: number): boolean;
	/** The first moment of a range whose lines are not here; `undefined`: all are. */
	missing(from_ms: number, to_ms: number): number | undefined;
	/**
	 * Brings the lines of a moment: one request for its segment where it is not held as it is now,
	 * and one for the index where that is old. Call it at a seek, and ahead of what plays.
	 */
	prepare(at_ms: number): Promise<void>;
	/** The lines from one moment on, up to another one and without it, as far as they are here. */
	between(from_ms: number, to_ms: number): DanmakuLine[];
	/** Writes a line to a moment of a video, in the name of who is logged in. Its `seq`. */
	write(account: Account, text: string, offset_ms: number): Promise<number>;
	private numberOf;
	private believed_ms;
	private readIndex;
	private json;
	private get;
	private bring;
	private fetch;
	private hold;
}

export {
	Range$1 as Range,
};

export {};
