//! Every limit of danmaku for replay: its default, and what happens when it is reached.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Section `[danmaku]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DanmakuConfig {
    /// Whether the lines of rooms are kept for replay. A room whose attribute `danmaku` is `off` is
    /// left out.
    pub enabled: bool,
    /// Where segments are kept.
    pub folder: PathBuf,
    /// The length of a segment, seconds.
    pub segment_s: u32,
    /// Lines of a segment. More: those of the least weight are left out, but for the high ones
    /// (system, gift).
    pub lines_max: u32,
    /// High lines of a segment. More: left out, counted.
    pub high_lines_max: u32,
    /// Segments that are open at once. More: their lines are lost, counted.
    pub open_segments_max: u32,
    /// Bytes of lines of open segments. More: lost, counted.
    pub open_bytes_max: u64,
    /// A segment that cannot be written is tried again for so long, seconds; then it is lost.
    pub retry_s: u32,
    /// Segments are kept for so many days after they were last changed; 0: for ever.
    pub retention_days: u32,
    /// Bytes of all segments. More: the oldest recordings go, counted.
    pub disk_bytes_max: u64,
    /// The largest line of a video, bytes.
    pub video_text_bytes_max: u32,
    /// Lines one user may write to videos at once, then one in three seconds. More: `SLOW_DOWN`.
    pub video_burst: u32,
}

impl Default for DanmakuConfig {
    fn default() -> DanmakuConfig {
        DanmakuConfig {
            enabled: false, // what people say is kept only where somebody has said so
            folder: "danmaku".into(),
            segment_s: 360, // six minutes and 6,000 lines: what players of danmaku are used to
            lines_max: 6_000,
            high_lines_max: 20_000, // 55 a second, beyond any rate at which people read them
            open_segments_max: 4_096,
            open_bytes_max: 256 << 20,
            retry_s: 60,
            retention_days: 0,
            disk_bytes_max: 10 << 30, // 10,000 full segments of about 1 MiB
            video_text_bytes_max: 512,
            video_burst: 5,
        }
    }
}

impl DanmakuConfig {
    /// The first rule the section breaks, in words: which key, what it is, what is allowed.
    ///
    /// # Errors
    /// The sentence to show.
    pub fn check(&self) -> Result<(), String> {
        for (name, value, min, max) in [
            ("segment_s", u64::from(self.segment_s), 1, 3_600),
            ("lines_max", u64::from(self.lines_max), 1, 100_000),
            ("high_lines_max", u64::from(self.high_lines_max), 1, 1_000_000),
            ("open_segments_max", u64::from(self.open_segments_max), 1, 1_000_000),
            ("open_bytes_max", self.open_bytes_max, 1 << 20, 1 << 40),
            ("retry_s", u64::from(self.retry_s), 0, 3_600),
            ("retention_days", u64::from(self.retention_days), 0, 36_500),
            ("disk_bytes_max", self.disk_bytes_max, 1 << 20, 1 << 60),
            ("video_text_bytes_max", u64::from(self.video_text_bytes_max), 1, 4_096),
            ("video_burst", u64::from(self.video_burst), 1, 1_000_000),
        ] {
            if value < min || value > max {
                return Err(format!("{name} is {value}; allowed is {min} to {max}"));
            }
        }
        if self.folder.as_os_str().is_empty() {
            return Err("folder is empty; it names a directory".into());
        }
        Ok(())
    }

    /// The length of a segment, milliseconds.
    pub(super) fn segment_ms(&self) -> u32 {
        self.segment_s * 1_000
    }
}
