//! Generates the message types from `uproar/v1/*.proto` without `protoc`, and says on those of
//! `uproar.proto` how each field looks in JSON. Which fields JSON leaves out when they have their
//! default is decided here, once: only those whose absence means the same to a reader.

/// Messages that read and write JSON field by field. `Publish` and `Message` are apart: their
/// content is one of two keys.
const PLAIN: &[&str] = &[
    "Connect",
    "Join",
    "Cursor",
    "Leave",
    "Ping",
    "Welcome",
    "Joined",
    "Batch",
    "Combo",
    "Report",
    "Reported",
    "Verdicts",
    "Verdict",
    "Gap",
    "Count",
    "Error",
    "Reconnect",
    "Pong",
    "Left",
    "Send",
    "File",
    "Sync",
    "Pull",
    "Range",
    "Mark",
    "Marked",
    "Signal",
    "Renew",
    "Sent",
    "Stored",
    "StoredMessage",
    "Synced",
    "ConversationState",
    "Pulled",
    "Resync",
    "Cursors",
    "UserCursor",
    "Renewed",
    "Expiring",
    "Notice",
    "GroupState",
    "Receipts",
    "ReadCount",
    "Watch",
    "Presence",
    "UserPresence",
    "React",
    "Reacted",
    "ReactionCount",
    "Relations",
    "RelationState",
    "Settings",
    "Vote",
    "Recalled",
    "Attributes",
    "Pinned",
    "Poll",
    "Voted",
    "Held",
    "Entered",
    "Announced",
];

/// Left out of JSON when they have their default value.
const OMITTED: &[&str] = &[
    "Recalled.user",
    "Recalled.up_to_seq",
    "Connect.token",
    "Connect.device",
    "Connect.join",
    "Connect.agent",
    "Join.resume",
    "Publish.client_msg_id",
    "Publish.count",
    "Publish.gift",
    "Joined.slow_mode_s",
    "Joined.followers_only_s",
    "Message.client_msg_id",
    "Verdict.seq",
    "Verdict.code",
    "Verdict.retry_after_ms",
    "Verdict.text",
    "Count.viewers",
    "Count.likes",
    "Error.retry_after_ms",
    "Error.room",
    "Error.client_msg_id",
    "Reconnect.to",
    "Left.code",
    "Connect.inbox",
    "Send.kind",
    "Send.text",
    "Send.data",
    "Send.file",
    "Send.target_seq",
    "File.sha256",
    "File.media_type",
    "File.name",
    "File.thumbnail_url",
    "Sync.cursor",
    "Sync.limit",
    "Marked.read_seq",
    "Marked.delivered_seq",
    "Signal.data",
    "Signal.user",
    "Sent.seq",
    "Sent.time_ms",
    "Sent.code",
    "Sent.retry",
    "Sent.retry_after_ms",
    "Sent.text",
    "StoredMessage.client_msg_id",
    "StoredMessage.kind",
    "StoredMessage.text",
    "StoredMessage.data",
    "StoredMessage.file",
    "StoredMessage.target_seq",
    "StoredMessage.gone",
    "StoredMessage.edited_seq",
    "StoredMessage.notice",
    "Notice.users",
    "Notice.more",
    "Notice.text",
    "Notice.until_ms",
    "ConversationState.peer_read_seq",
    "ConversationState.peer_delivered_seq",
    "ConversationState.left",
    "ConversationState.group",
    "GroupState.muted_all",
    "GroupState.muted_until_ms",
    "Pulled.rest",
    "UserCursor.delivered_seq",
    "UserPresence.last_seen_ms",
    "Welcome.generation",
    "Sent.msg_id",
    "StoredMessage.msg_id",
    "StoredMessage.reactions",
    "StoredMessage.own_reactions",
    "StoredMessage.pinned_seq",
    "Synced.relations",
    "Synced.settings",
    "Synced.relations_anew_ms",
    "ConversationState.pinned",
    "ConversationState.silent",
    "React.remove",
    "Reacted.remove",
    "Reacted.code",
    "Reacted.retry",
    "Reacted.retry_after_ms",
    "RelationState.friend",
    "RelationState.asked",
    "RelationState.asking",
    "RelationState.blocks",
    "RelationState.follows",
    "Joined.attributes_version",
    "Joined.recalled",
    "Joined.pinned",
    "Joined.polls",
    "Message.gone",
    "Message.combo",
    "Reported.code",
    "Reported.text",
    "Entered.more",
    "Attributes.set",
    "Attributes.removed",
    "Attributes.whole",
    "Pinned.message",
    "Poll.question",
    "Poll.options",
    "Poll.over",
    "Voted.code",
    "Voted.retry_after_ms",
];

/// Fields whose JSON form is not that of their Rust type, and the module that knows it.
const WITH: &[(&str, &str)] = &[
    ("epoch", "epoch"),
    ("client_msg_id", "base64"),
    ("Publish.class", "class"),
    ("Message.class", "class"),
    ("Verdict.outcome", "outcome"),
    ("Gap.reason", "reason"),
    ("generation", "epoch"),
    ("msg_id", "epoch"),
    ("Send.kind", "kind_word"),
    ("StoredMessage.kind", "kind_word"),
    ("Send.data", "base64"),
    ("StoredMessage.data", "base64"),
    ("Signal.data", "base64"),
    ("Report.reports", "base64"),
    ("File.sha256", "base64"),
];

/// Fields that hold messages, and how they are read: as objects only.
const OBJECTS: &[(&str, &str)] = &[
    ("Connect.join", "objects"),
    ("Join.resume", "object_or_null"),
    ("Joined.messages", "objects"),
    ("Batch.messages", "objects"),
    ("Verdicts.verdicts", "objects"),
    ("Send.file", "object_or_null"),
    ("StoredMessage.file", "object_or_null"),
    ("StoredMessage.notice", "object_or_null"),
    ("ConversationState.group", "object_or_null"),
    ("Receipts.counts", "objects"),
    ("Pull.ranges", "objects"),
    ("Mark.marks", "objects"),
    ("Stored.messages", "objects"),
    ("Synced.conversations", "objects"),
    ("Pulled.parts", "objects"),
    ("Pulled.rest", "objects"),
    ("Cursors.users", "objects"),
    ("Presence.users", "objects"),
    ("StoredMessage.reactions", "objects"),
    ("Synced.relations", "objects"),
    ("Synced.settings", "object_or_null"),
    ("Relations.users", "objects"),
    ("Joined.pinned", "object_or_null"),
    ("Joined.polls", "objects"),
    ("Pinned.message", "object_or_null"),
    ("Held.messages", "objects"),
    ("Announced.message", "object_or_null"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=uproar/v1/uproar.proto");
    println!("cargo:rerun-if-changed=uproar/v1/quality.proto");
    println!("cargo:rerun-if-changed=uproar/v1/danmaku.proto");
    println!("cargo:rerun-if-changed=build.rs");
    let files = ["uproar/v1/uproar.proto", "uproar/v1/quality.proto", "uproar/v1/danmaku.proto"];
    let descriptors = protox::compile(files, ["."])?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]).btree_map(["."]);
    for message in PLAIN {
        config.message_attribute(message, "#[derive(serde::Serialize, serde::Deserialize)]");
        config.message_attribute(message, "#[serde(default)]");
    }
    for message in ["Publish", "Message"] {
        config.message_attribute(message, "#[derive(serde::Serialize, serde::Deserialize)]");
        config.message_attribute(
            message,
            format!("#[serde(try_from = \"crate::wire::json::{message}In\")]"),
        );
        config.field_attribute(format!("{message}.content"), "#[serde(flatten)]");
        let content = format!("{message}.content");
        config.enum_attribute(&content, "#[derive(serde::Serialize)]");
        config.enum_attribute(&content, "#[serde(rename_all = \"snake_case\")]");
        config.field_attribute(
            format!("{message}.content.data"),
            "#[serde(serialize_with = \"crate::wire::json::base64::serialize\")]",
        );
    }
    for body in ["ClientFrame.body", "ServerFrame.body"] {
        config.enum_attribute(body, "#[derive(serde::Serialize)]");
        config.enum_attribute(body, "#[serde(rename_all = \"snake_case\")]");
    }
    for field in OMITTED {
        config.field_attribute(
            field,
            "#[serde(skip_serializing_if = \"crate::wire::json::is_default\")]",
        );
    }
    for (field, module) in WITH {
        config.field_attribute(field, format!("#[serde(with = \"crate::wire::json::{module}\")]"));
    }
    for (field, reader) in OBJECTS {
        config.field_attribute(
            field,
            format!("#[serde(deserialize_with = \"crate::wire::json::{reader}\")]"),
        );
    }
    // Few messages have a file or are a notice: the others need not carry their room.
    config.boxed("Send.file").boxed("StoredMessage.file").boxed("StoredMessage.notice");
    config.boxed("ConversationState.group").boxed("Joined.pinned").boxed("Pinned.message");
    config.boxed("Announced.message").boxed("Message.combo").boxed("DanmakuLine.combo");
    config.compile_fds(descriptors)?;
    Ok(())
}
