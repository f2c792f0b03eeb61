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
    /// Bytes of the disk that closed segments take, in blocks of 4 KiB, with their indexes and
    /// folders. More: the oldest go, counted. With a bucket: of those on the disk, and copies of
    /// what the bucket has go. Open segments have bounds of their own, and a file each.
    pub disk_bytes_max: u64,
    /// The largest line of a video, bytes.
    pub video_text_bytes_max: u32,
    /// Lines one user may write to videos at once, then one in three seconds. More: `SLOW_DOWN`.
    pub video_burst: u32,
    /// The bucket behind the disk.
    pub s3: S3Config,
}

/// Section `[danmaku.s3]`: where segments go for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3Config {
    /// Its name; empty: there is none, and segments stay on the disk.
    pub bucket: String,
    /// Where it is: an address with `http://` or `https://`; empty: Amazon's of the region.
    pub endpoint: String,
    /// As its maker calls it.
    pub region: String,
    /// What names in it begin with. Whoever else writes to the bucket needs another one.
    pub prefix: String,
    /// Who asks.
    pub access_key_id: String,
    /// The key that signs requests.
    pub secret_access_key: String,
    /// A request that takes longer has failed, seconds.
    pub timeout_s: u32,
}

impl Default for S3Config {
    fn default() -> S3Config {
        S3Config {
            bucket: String::new(),
            endpoint: String::new(),
            region: "us-east-1".into(), // what servers take that have no regions
            prefix: "danmaku".into(),
            access_key_id: String::new(),
            secret_access_key: String::new(),
            timeout_s: 10,
        }
    }
}

impl S3Config {
    fn check(&self) -> Result<(), String> {
        if self.bucket.is_empty() {
            return Ok(());
        }
        let Self { endpoint, prefix, timeout_s, .. } = self;
        let is_address = ["http://", "https://"].iter().any(|begin| endpoint.starts_with(begin));
        if !endpoint.is_empty() && !is_address {
            return Err(format!("endpoint is {endpoint:?}; it begins with http:// or https://"));
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_/".contains(c);
        if prefix.len() > 256 || !prefix.chars().all(is_plain) || prefix.contains("//") {
            return Err(format!(
                "prefix is {prefix:?}; allowed are at most 256 of a-z A-Z 0-9 - _ and single /"
            ));
        }
        for (name, value) in
            [("access_key_id", &self.access_key_id), ("secret_access_key", &self.secret_access_key)]
        {
            if value.is_empty() {
                return Err(format!("{name} is empty; a bucket needs it"));
            }
        }
        if !(1..=300).contains(timeout_s) {
            return Err(format!("timeout_s is {timeout_s}; allowed is 1 to 300"));
        }
        Ok(())
    }
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
            s3: S3Config::default(),
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
        self.s3.check().map_err(|error| format!("s3.{error}"))
    }

    pub(super) fn has_bucket(&self) -> bool {
        !self.s3.bucket.is_empty()
    }

    /// Bytes of all segments, wherever they are. A bucket has no bound but their age.
    pub(super) fn stored_bytes_max(&self) -> u64 {
        if self.has_bucket() { u64::MAX } else { self.disk_bytes_max }
    }

    /// The length of a segment, milliseconds.
    pub(super) fn segment_ms(&self) -> u32 {
        self.segment_s * 1_000
    }
}
