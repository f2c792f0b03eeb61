//! What segments are called: whose, of which recording, which one.
//!
//! Owns the names on the shelf.

use serde::{Deserialize, Serialize};
use uproar_proto::ids::RoomId;

/// Whose danmaku: a live room's, or a recorded video's. Both have the same kind of name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Room,
    Video,
}

/// One of either kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Source {
    pub(crate) kind: Kind,
    /// As [`RoomId`] takes it.
    pub(crate) name: String,
}

/// A stretch of a source's life, with offsets from its start. A video has one, which begins at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Recording {
    /// Milliseconds since 1970.
    pub(crate) start_ms: u64,
    /// Of the room.
    pub(crate) epoch: u64,
}

/// The only one of a video.
pub(crate) const OF_VIDEO: Recording = Recording { start_ms: 0, epoch: 0 };

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) source: Source,
    pub(crate) recording: Recording,
    pub(crate) number: u32,
    /// The length of the recording's segments.
    pub(crate) length_ms: u32,
}

impl Source {
    pub(crate) fn room(room: &RoomId) -> Source {
        Source { kind: Kind::Room, name: room.as_str().to_owned() }
    }

    pub(crate) fn video(video: &RoomId) -> Source {
        Source { kind: Kind::Video, name: video.as_str().to_owned() }
    }

    /// Its folder. A name may be `..`, but never is a path of its own.
    pub(crate) fn folder(&self) -> String {
        let kind = match self.kind {
            Kind::Room => "room",
            Kind::Video => "video",
        };
        format!("{kind}={}", self.name)
    }

    /// The source of a folder.
    pub(crate) fn of_folder(folder: &str) -> Option<Source> {
        let (kind, name) = folder.split_once('=')?;
        let kind = match kind {
            "room" => Kind::Room,
            "video" => Kind::Video,
            _ => return None,
        };
        RoomId::new(name).map(|name| Source { kind, name: name.as_str().to_owned() })
    }
}

impl Recording {
    /// Its name: 13 digits, a dash, 16 hexadecimal digits; later ones come later.
    pub(crate) fn id(self) -> String {
        format!("{:013}-{:016x}", self.start_ms, self.epoch)
    }

    /// The recording of a name.
    pub(crate) fn of_id(id: &str) -> Option<Recording> {
        let (start, epoch) = id.split_once('-')?;
        let start_ms = start.parse().ok()?;
        let epoch = u64::from_str_radix(epoch, 16).ok()?;
        let recording = Recording { start_ms, epoch };
        (recording.id() == id).then_some(recording)
    }

    /// The one of a video.
    pub(crate) fn of_video() -> Recording {
        OF_VIDEO
    }
}

impl Place {
    /// A file of its own, without folders.
    pub(crate) fn file_name(&self) -> String {
        format!("{}~{}~{:06}", self.source.folder(), self.recording.id(), self.number)
    }
}

/// The value of a segment on the shelf.
pub(crate) fn segment_name(source: &Source, recording: Recording, number: u32) -> String {
    format!("{}/{number:06}.pb.zst", folder(source, recording))
}

/// The folder of a recording on the shelf.
pub(crate) fn folder(source: &Source, recording: Recording) -> String {
    format!("{}/{}", source.folder(), recording.id())
}

/// What the value is called, in its folder, that says what a recording has.
pub(crate) const INDEX: &str = "index.json";

/// That value on the shelf.
pub(crate) fn index_name(source: &Source, recording: Recording) -> String {
    format!("{}/{INDEX}", folder(source, recording))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_were_written_and_others_are_not() {
        let recording = Recording { start_ms: 1_764_131_378_000, epoch: 0xab };
        assert_eq!(recording.id(), "1764131378000-00000000000000ab");
        assert_eq!(Recording::of_id(&recording.id()), Some(recording));
        for bad in ["", "-", "1-ab", "1764131378000-AB", "../x", "1764131378000-0000000000000ab"] {
            assert_eq!(Recording::of_id(bad), None, "{bad}");
        }
        let source = Source::room(&RoomId::new("...").unwrap());
        assert_eq!(source.folder(), "room=...");
        assert_eq!(Source::of_folder(&source.folder()), Some(source));
        assert_eq!(Source::of_folder("open"), None);
    }
}
