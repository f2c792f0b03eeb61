//! How a segment of danmaku goes over HTTP: protobuf or JSON, compressed where the client can, with
//! an ETag of its very bytes.

use super::etag::ETag;
use crate::danmaku::View;
use axum::http::StatusCode;
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use serde::Serialize;
use std::io;
use std::ops::Range;
use uproar_proto::v1::{self, Class, DanmakuLine, DanmakuSegment, danmaku_line::Content};
use utoipa::ToSchema;

/// How long a closed segment is good without a question, seconds: a recall is seen after that
/// everywhere.
const CLOSED_S: u32 = 30;
/// Shorter bodies are not compressed: it would save nothing.
const COMPRESS_BYTES_MIN: usize = 256;
/// How hard what is made for one answer is compressed: the fastest.
const LEVEL: i32 = 1;

/// A segment, as JSON.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DanmakuSegment)]
pub(crate) struct SegmentView {
    segment: u32,
    /// 0: it was never closed.
    version: u32,
    segment_ms: u32,
    /// When offset 0 is, milliseconds since 1970; 0 for a video.
    start_unix_ms: u64,
    /// Lines that were not kept.
    left_out: u32,
    /// Of a room: in the order in which it admitted them. Of a video: by offset.
    lines: Vec<LineView>,
}

/// A line.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DanmakuLine)]
pub(crate) struct LineView {
    offset_ms: u32,
    /// `chat`, `gift` or `system`.
    class: &'static str,
    user: String,
    /// Either this or `data`; a gift with a name may have neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Bytes, base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    /// 0 to 10.
    weight: u32,
    seq: u64,
    /// Of a gift with a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    combo: Option<ComboView>,
}

/// What a message says of the combo it belongs to: gifts of one user and one name.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Combo)]
pub(crate) struct ComboView {
    gift: String,
    /// How many this message brings.
    count: u64,
    /// How many there are of the combo with it.
    total: u64,
    /// The same in all messages of a combo.
    combo: u64,
}

impl LineView {
    fn of(line: DanmakuLine) -> LineView {
        let class = match line.class() {
            Class::System => "system",
            Class::Gift => "gift",
            Class::Chat | Class::Like => "chat",
        };
        let DanmakuLine { offset_ms, user, content, weight, seq, combo, .. } = line;
        let (text, data) = match content {
            Some(Content::Text(text)) => (Some(text), None),
            Some(Content::Data(data)) => (None, Some(STANDARD.encode(data))),
            None => (None, None),
        };
        let combo = combo.map(|combo| {
            let v1::Combo { gift, count, total, combo } = *combo;
            ComboView { gift, count, total, combo }
        });
        LineView { offset_ms, class, user, text, data, weight, seq, combo }
    }
}

/// What a request says of the answer it takes.
pub(crate) struct Asked<'a> {
    headers: &'a HeaderMap,
    kind: &'static str,
    fresh_s: u32,
}

impl Asked<'_> {
    /// JSON, good for so many seconds.
    pub(crate) fn json(headers: &HeaderMap, fresh_s: u32) -> Asked<'_> {
        Asked { headers, kind: "application/json", fresh_s }
    }
}

/// The lines of a segment in this range, as they were asked for.
pub(crate) fn shown(view: View, range: &Range<u32>, headers: &HeaderMap) -> io::Result<Response> {
    let View { mut segment, is_open } = view;
    segment.lines.retain(|line| range.contains(&line.offset_ms));
    let fresh_s = if is_open { 1 } else { CLOSED_S };
    if has(headers, &header::ACCEPT, "application/json") {
        let DanmakuSegment { version, number, length_ms, start_ms, lines, left_out } = segment;
        let view = SegmentView {
            segment: number,
            version,
            segment_ms: length_ms,
            start_unix_ms: start_ms,
            left_out,
            lines: lines.into_iter().map(LineView::of).collect(),
        };
        return Ok(answered(serde_json::to_vec(&view)?, Asked::json(headers, fresh_s)));
    }
    let asked = Asked { headers, kind: "application/x-protobuf", fresh_s };
    Ok(answered(segment.encode_to_vec(), asked))
}

/// A body as the client takes it, or the word that it has it.
pub(crate) fn answered(mut body: Vec<u8>, asked: Asked<'_>) -> Response {
    let mut headers = HeaderMap::new();
    let may_compress = body.len() >= COMPRESS_BYTES_MIN;
    if may_compress
        && has(asked.headers, &header::ACCEPT_ENCODING, "zstd")
        && let Ok(compressed) = zstd::encode_all(&body[..], LEVEL)
    {
        body = compressed;
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("zstd"));
    }
    let etag = ETag::of(&body);
    let cache = format!("public, max-age={}", asked.fresh_s);
    let mut add =
        |name, value: Result<HeaderValue, _>| drop(value.map(|v| headers.insert(name, v)));
    add(header::CACHE_CONTROL, HeaderValue::from_str(&cache));
    add(header::VARY, HeaderValue::from_str("accept, accept-encoding"));
    add(header::CONTENT_TYPE, HeaderValue::from_str(asked.kind));
    // For pages of other sites: players stand anywhere, and what is here is open to everybody.
    add(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_str("*"));
    etag.say(&mut headers);
    if etag.is_known(asked.headers) {
        headers.remove(header::CONTENT_TYPE);
        headers.remove(header::CONTENT_ENCODING);
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, body).into_response()
}

/// Whether a list of words, each perhaps with a weight, has this one, and not with weight 0.
fn has(headers: &HeaderMap, name: &header::HeaderName, word: &str) -> bool {
    let lists = headers.get_all(name).into_iter();
    let mut words = lists.flat_map(|list| list.to_str().unwrap_or_default().split(','));
    words.any(|one| {
        let (is, weight) = one.split_once(';').unwrap_or((one, ""));
        let none =
            weight.trim().strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()) == Some(0.0);
        is.trim().eq_ignore_ascii_case(word) && !none
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoding_is_taken_only_where_the_client_takes_it() {
        for (list, takes) in [
            ("gzip, zstd", true),
            ("ZSTD;q=0.5", true),
            ("zstd; q=0", false),
            ("gzip, br", false),
            ("zstdx", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, list.parse().unwrap());
            assert_eq!(has(&headers, &header::ACCEPT_ENCODING, "zstd"), takes, "{list}");
            let answer = answered(vec![b'x'; 1_000], Asked::json(&headers, 1));
            assert_eq!(answer.headers().contains_key(header::CONTENT_ENCODING), takes, "{list}");
        }
    }
}
