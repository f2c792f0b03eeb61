//! The one table of codes. The number's range tells a client what to do:
//! 1xxx retry here, 2xxx fix and retry, 3xxx do not retry, 4xxx reconnect (elsewhere).
//!
//! Each row is the enum variant, the number on the wire, the WebSocket close code used where the
//! code ends a connection, the metric label, and the text for people. `PROTOCOL.md` holds the
//! same table; a test compares them.

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $variant:ident = $number:literal, ws $ws:literal, $label:literal, $text:literal;)*) => {
        /// A stable error code: see the module's text for its ranges.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Code { $(#[doc = $text] $variant = $number,)* }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// The code of a number; `None` for one this version does not know.
            #[must_use]
            pub fn from_number(number: u32) -> Option<Code> {
                match number { $($number => Some(Code::$variant),)* _ => None }
            }

            /// The close code a WebSocket gets when this code ends its connection (RFC 6455, 7.4).
            #[must_use]
            pub fn websocket_close(self) -> u16 {
                match self { $(Code::$variant => $ws,)* }
            }

            /// `SCREAMING_SNAKE` name: `name` on the wire and the label in metrics.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Code::$variant => $label,)* }
            }

            /// For people; may change.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Code::$variant => $text,)* }
            }
        }
    };
}

codes! {
    SlowDown = 1001, ws 1013, "SLOW_DOWN", "too many messages from this user; retry after the given time";
    SlowMode = 1002, ws 1013, "SLOW_MODE", "the room is in slow mode; retry after the given time";
    RoomBusy = 1003, ws 1013, "ROOM_BUSY", "the room admits fewer messages than were offered; this one was shed";
    QueueFull = 1004, ws 1013, "QUEUE_FULL", "a queue of the server is full; retry after the given time";
    Expired = 1005, ws 1013, "EXPIRED", "the message could not be sent within the deadline";
    TooManyRooms = 1006, ws 1013, "TOO_MANY_ROOMS", "this node holds as many rooms as it may; retry later";
    StoreDown = 1007, ws 1013, "STORE_DOWN", "the store did not answer; whether it was stored is unknown, retry with the same id";
    RequestTimeout = 1008, ws 1013, "REQUEST_TIMEOUT", "the request was not over in time; whether it was carried out is unknown";
    HookDown = 1009, ws 1013, "HOOK_DOWN", "the platform did not decide about the message in time; nothing was stored, retry with the same id";
    BadRoom = 2001, ws 1008, "BAD_ROOM", "a room name is 1 to 64 bytes of A-Z a-z 0-9 . _ : -, not . or ..";
    RoomNotFound = 2002, ws 1008, "ROOM_NOT_FOUND", "there is no such room, and rooms are not created by joining here";
    TokenExpired = 2003, ws 1008, "TOKEN_EXPIRED", "the token has expired; connect with a new one";
    TokenInvalid = 2004, ws 1008, "TOKEN_INVALID", "the token is not one this server accepts";
    TokenRequired = 2005, ws 1008, "TOKEN_REQUIRED", "guests are not admitted here; connect with a token";
    NotMember = 2006, ws 1008, "NOT_MEMBER", "not a member; join the room or the group first";
    TooLarge = 2007, ws 1009, "TOO_LARGE", "the content is larger than this room takes";
    Empty = 2008, ws 1008, "EMPTY", "a message needs text or data";
    BadId = 2009, ws 1008, "BAD_ID", "client_msg_id is 1 to 16 bytes";
    TooManyJoins = 2010, ws 1008, "TOO_MANY_JOINS", "this connection is in as many rooms as it may be";
    Forbidden = 2011, ws 1008, "FORBIDDEN", "this is not permitted to this token or user";
    RoomClosed = 2012, ws 1008, "ROOM_CLOSED", "the room is closed";
    Muted = 2013, ws 1008, "MUTED", "this user may not speak in the room now";
    RoomFull = 2014, ws 1008, "ROOM_FULL", "the room holds as many viewers as it may";
    BadRequest = 2015, ws 1008, "BAD_REQUEST", "the request is not valid";
    AlreadyExists = 2016, ws 1008, "ALREADY_EXISTS", "there is such a room already";
    AlreadyJoined = 2017, ws 1008, "ALREADY_JOINED", "this connection is in the room already";
    NotFriend = 2018, ws 1008, "NOT_FRIEND", "this user takes messages from friends alone";
    Blocked = 2019, ws 1008, "BLOCKED", "one of the two blocks the other";
    Conflict = 2020, ws 1008, "CONFLICT", "the request contradicts what is there, or its id was used with other content";
    NotFound = 2021, ws 1008, "NOT_FOUND", "what the request names does not exist";
    WrongPassword = 2022, ws 1008, "WRONG_PASSWORD", "the name or the password is wrong";
    LimitReached = 2023, ws 1008, "LIMIT_REACHED", "more of these than there may be; ask for fewer, or remove one first";
    RoomMuted = 2024, ws 1008, "ROOM_MUTED", "nobody may speak in the room now but those on its list";
    Duplicate = 2025, ws 1008, "DUPLICATE", "the room has just heard this text; say something else, or wait";
    PollOver = 2026, ws 1008, "POLL_OVER", "there is no such poll in the room, or it takes no more answers";
    AlreadyVoted = 2027, ws 1008, "ALREADY_VOTED", "this user has answered the poll; the first answer counts";
    InboxRequired = 2030, ws 1008, "INBOX_REQUIRED", "conversations need a connection with a token and an inbox";
    NoStore = 2031, ws 1008, "NO_STORE", "this server keeps no conversations";
    BadConversation = 2032, ws 1008, "BAD_CONVERSATION", "a conversation is user:NAME or group:ID";
    Refused = 2033, ws 1008, "REFUSED", "the platform does not take this message";
    Filtered = 2034, ws 1008, "FILTERED", "the text is not allowed here";
    FollowersOnly = 2035, ws 1008, "FOLLOWERS_ONLY", "only who follows the room, for long enough, may speak in it now";
    NoReports = 2038, ws 1008, "NO_REPORTS", "this server takes no reports over connections; report over HTTP";
    BadFrame = 3001, ws 1002, "BAD_FRAME", "a frame could not be decoded";
    FrameTooLarge = 3002, ws 1009, "FRAME_TOO_LARGE", "a frame is larger than allowed";
    BadHandshake = 3003, ws 1002, "BAD_HANDSHAKE", "a connection opens with UPR1 or a WebSocket upgrade, then sends connect";
    BadUtf8 = 3004, ws 1007, "BAD_UTF8", "text is not UTF-8";
    Kicked = 3005, ws 1008, "KICKED", "removed by a moderator";
    Banned = 3006, ws 1008, "BANNED", "this user, device or address is banned";
    OriginRefused = 3007, ws 1008, "ORIGIN_REFUSED", "pages of this origin may not connect here";
    BadProxyHeader = 3008, ws 1002, "BAD_PROXY_HEADER", "a trusted proxy sent a bad PROXY protocol v2 header";
    Flooding = 3009, ws 1008, "FLOODING", "this connection sent more frames a second than allowed";
    ProtocolOrder = 3010, ws 1002, "PROTOCOL_ORDER", "the first frame is connect, and there is one of it";
    BadCompression = 3011, ws 1002, "BAD_COMPRESSION", "a compressed message could not be inflated within the bound";
    SessionRevoked = 3012, ws 1008, "SESSION_REVOKED", "the session has ended; log in again";
    HandshakeTimeout = 4001, ws 1008, "HANDSHAKE_TIMEOUT", "no connect within the handshake deadline";
    IdleTimeout = 4002, ws 1001, "IDLE_TIMEOUT", "two heartbeats were missed";
    Draining = 4003, ws 1012, "DRAINING", "the server is going away; reconnect after a random wait";
    AddressLimit = 4004, ws 1013, "ADDRESS_LIMIT", "too many connections from this address";
    ServerFull = 4005, ws 1013, "SERVER_FULL", "the server holds as many connections as it may";
    TooSlow = 4006, ws 1013, "TOO_SLOW", "this connection did not take its replies in time";
    Internal = 4007, ws 1011, "INTERNAL", "the server failed; this is a defect";
}

impl Code {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u32 {
        self as u32
    }

    /// Whether the same request may succeed later, unchanged (W-31).
    #[must_use]
    pub fn retry(self) -> bool {
        matches!(self.number(), 1000..=1999 | 4000..=4999)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_round_trip() {
        for (i, a) in Code::ALL.iter().enumerate() {
            assert_eq!(Code::from_number(a.number()), Some(*a));
            for b in &Code::ALL[i + 1..] {
                assert_ne!(a.number(), b.number());
                assert_ne!(a.name(), b.name());
            }
        }
        assert_eq!(Code::from_number(9999), None);
    }
}
