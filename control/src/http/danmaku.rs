//! Danmaku for replay: what a room or a video has, its segments, and what operators recall.
//!
//! Owns the routes and how their answers are cached. Reading is open to everybody, as rooms are.

use super::actor::Actor;
use super::caller::User;
use super::errors::{ApiError, ErrorBody};
use super::extract::{Body, Params, Room, room_id};
use super::publish::check_user;
use super::segments::{Asked, answered};
use super::{Context, Shared};
use crate::audit::Entry;
use crate::danmaku::{Danmaku, Lost, Recalled, Recording, RecordingView, Source};
use crate::fault::Fault;
use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;
use uproar_proto::error::Code;
use uproar_proto::ids::RoomId;
use utoipa::{IntoParams, ToSchema};

/// Recordings in an index where the caller does not say.
const RECORDINGS_DEFAULT: usize = 10;
/// At most.
const RECORDINGS_MAX: usize = 100;
/// The latest moment of a video, milliseconds: a day.
const VIDEO_MS_MAX: u32 = 24 * 3_600_000;

/// What a room has.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Recordings {
    /// The latest first.
    recordings: Vec<RecordingShown>,
    /// Pass it as `before` for those that came before; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A stretch of a room's life, at most a day.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Recording)]
pub(crate) struct RecordingShown {
    #[schema(example = "1764131378000-00000000000000ab")]
    recording: String,
    /// Of the room; hexadecimal.
    epoch: String,
    /// When offset 0 is, milliseconds since 1970: about two seconds before the first line.
    start_unix_ms: u64,
    /// Segment n has the offsets from n times this on.
    segment_ms: u32,
    /// Lines that were lost: a queue was full, or a segment could not be written.
    lines_lost: u64,
    segments: Vec<SegmentShown>,
}

/// What a video has. A segment without lines is not there.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Segments {
    /// Segment n has the offsets from n times this on.
    segment_ms: u32,
    /// Lines that were lost: a queue was full, or a segment could not be written.
    lines_lost: u64,
    segments: Vec<SegmentShown>,
}

/// A segment.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SegmentOfIndex)]
pub(crate) struct SegmentShown {
    segment: u32,
    from_ms: u64,
    /// Without it.
    to_ms: u64,
    lines: u32,
    /// Lines that were not kept: more came than a segment holds.
    left_out: u32,
    /// Rises where a line was recalled; 0: it was never closed.
    version: u32,
    /// It is still written to.
    open: bool,
}

/// Which recordings.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct IndexParams {
    /// Those that came before this one.
    before: Option<String>,
    /// 1 to 100, default 10.
    limit: Option<usize>,
}

/// Which lines of a segment.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct RangeParams {
    /// Those from this offset on.
    from_ms: Option<u32>,
    /// Those before this offset.
    to_ms: Option<u32>,
}

/// A line, or all lines of a user.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecallLines {
    /// The line's, with its epoch.
    seq: Option<u64>,
    /// Of a room alone; goes with `seq`.
    #[schema(example = "00000000000000ab")]
    epoch: Option<String>,
    /// Instead of `seq`: every line of this user so far.
    user: Option<String>,
}

/// How many lines are gone.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecalledLines {
    recalled: u32,
}

/// A line for a moment of a video.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VideoLine {
    /// 1 to `danmaku.video_text_bytes_max` (512) bytes.
    #[schema(example = "here it comes")]
    text: String,
    /// The moment; at most a day.
    offset_ms: u32,
}

/// A line that was taken in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WrittenLine {
    /// Names it among those of the video.
    seq: u64,
}

/// The room, recording and segment of a path.
pub(crate) struct OfRoom(RoomId, Recording, u32);

impl<S: Send + Sync> FromRequestParts<S> for OfRoom {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<(String, String, String)>::from_request_parts(parts, state).await;
        let Path((room, recording, segment)) =
            path.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
        Ok(OfRoom(room_id(&room)?, recording_of(&recording)?, number_of(&segment)?))
    }
}

/// The video and segment of a path.
pub(crate) struct OfVideo(RoomId, u32);

impl<S: Send + Sync> FromRequestParts<S> for OfVideo {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((video, segment)) =
            path.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
        Ok(OfVideo(video_id(&video)?, number_of(&segment)?))
    }
}

/// The `{video}` of a path.
pub(crate) struct Video(RoomId);

impl<S: Send + Sync> FromRequestParts<S> for Video {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(video) = path.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
        video_id(&video).map(Video)
    }
}

fn video_id(name: &str) -> Result<RoomId, ApiError> {
    RoomId::new(name).ok_or_else(|| {
        let shown: String = name.chars().take(80).collect();
        let allowed = "a video's name is 1 to 64 bytes of A-Z a-z 0-9 . _ : -, not . or ..";
        ApiError::bad_request(format!("video is {shown:?}; {allowed}"))
    })
}

fn recording_of(id: &str) -> Result<Recording, ApiError> {
    Recording::of_id(id).ok_or_else(|| {
        let shown: String = id.chars().take(80).collect();
        ApiError::bad_request(format!("recording is {shown:?}; the index of the room names them"))
    })
}

fn number_of(segment: &str) -> Result<u32, ApiError> {
    segment.parse().map_err(|_| {
        let shown: String = segment.chars().take(80).collect();
        ApiError::bad_request(format!("segment is {shown:?}; it is a number from 0 on"))
    })
}

/// Where danmaku is kept; 421 in an engine process, 503 where it is not kept.
fn kept(shared: &Shared) -> Result<Arc<Danmaku>, ApiError> {
    if let Some(control) = &shared.api.control {
        let text = format!(
            "danmaku is kept by the control process of this engine, which it reaches at {control}; \
             ask there, on its http.listen"
        );
        let error = ApiError::bad_request(text);
        return Err(error.with_status(StatusCode::MISDIRECTED_REQUEST));
    }
    shared.api.danmaku.clone().ok_or_else(|| {
        let text = "no danmaku is kept here: danmaku.enabled is false";
        ApiError::new(Code::NoStore, text).with_status(StatusCode::SERVICE_UNAVAILABLE)
    })
}

/// What needs the disk, off the threads of HTTP.
async fn off<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let failed = |error: io::Error| {
        tracing::error!(%error, "danmaku: a request failed");
        let text = "the disk that danmaku is kept on did not answer";
        ApiError::new(Code::StoreDown, text)
    };
    let defect = |_| {
        ApiError::new(Code::Internal, "the server failed; this is a defect")
            .with_status(StatusCode::SERVICE_UNAVAILABLE)
    };
    tokio::task::spawn_blocking(work).await.map_err(defect)?.map_err(failed)
}

fn segments_of(view: &RecordingView) -> Segments {
    let length_ms = view.index.length_ms;
    let mut segments: Vec<SegmentShown> = Vec::new();
    let shown = |segment: u32, lines, left_out, version, open| SegmentShown {
        segment,
        from_ms: u64::from(segment) * u64::from(length_ms),
        to_ms: u64::from(segment + 1) * u64::from(length_ms),
        lines,
        left_out,
        version,
        open,
    };
    let version = |number| view.index.segments.get(&number).map_or(0, |entry| entry.version);
    for (number, entry) in &view.index.segments {
        if !view.open.iter().any(|(open, ..)| open == number) {
            segments.push(shown(*number, entry.lines, entry.left_out, entry.version, false));
        }
    }
    for (number, lines, left_out) in &view.open {
        segments.push(shown(*number, *lines, *left_out, version(*number), true));
    }
    segments.sort_by_key(|one| one.segment);
    Segments { segment_ms: length_ms, lines_lost: view.index.lines_lost, segments }
}

/// Lists the recordings of a room, with their segments. It costs a 304 while nothing has changed.
#[utoipa::path(get, path = "/v1/rooms/{room}/danmaku", tag = "danmaku",
    params(("room" = String, Path, description = "the room's name"), IndexParams),
    responses(
        (status = 200, body = Recordings),
        (status = 304, description = "It is what If-None-Match names."),
        (status = 503, body = ErrorBody, description = "none is kept here, or the disk is away"),
    ))]
pub(crate) async fn of_room(
    State(shared): Context,
    Room(room): Room,
    Params(params): Params<IndexParams>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let limit = params.limit.unwrap_or(RECORDINGS_DEFAULT);
    if !(1..=RECORDINGS_MAX).contains(&limit) {
        let text = format!("limit is {limit}; allowed is 1 to {RECORDINGS_MAX}");
        return Err(ApiError::bad_request(text));
    }
    let before = params.before.as_deref().map(recording_of).transpose()?;
    let danmaku = kept(&shared)?;
    off(move || {
        let source = Source::room(&room);
        let mut views = danmaku.recordings(&source, before, limit + 1)?;
        let has_more = views.len() > limit;
        views.truncate(limit);
        let next = views.last().filter(|_| has_more).map(|view| view.recording.id());
        let of = |view: &RecordingView| {
            let Segments { segment_ms, lines_lost, segments } = segments_of(view);
            RecordingShown {
                recording: view.recording.id(),
                epoch: format!("{:016x}", view.recording.epoch),
                start_unix_ms: view.recording.start_ms,
                segment_ms,
                lines_lost,
                segments,
            }
        };
        let body = Recordings { recordings: views.iter().map(of).collect(), next };
        Ok(answered(serde_json::to_vec(&body)?, Asked::json(&headers, 1)))
    })
    .await
}

/// A segment of a recording: a `DanmakuSegment` of uproar/v1/danmaku.proto, or JSON where `Accept`
/// asks for it; as zstd where `Accept-Encoding` has it. What is closed changes only by a recall.
#[utoipa::path(get, path = "/v1/rooms/{room}/danmaku/{recording}/{segment}", tag = "danmaku",
    params(
        ("room" = String, Path, description = "the room's name"),
        ("recording" = String, Path, description = "as the index has it"),
        ("segment" = u32, Path, description = "from 0 on"),
        RangeParams,
    ),
    responses(
        (status = 200, content(
            (super::segments::SegmentView = "application/json"),
            (Vec<u8> = "application/x-protobuf"),
        )),
        (status = 304, description = "It is what If-None-Match names."),
        (status = 404, body = ErrorBody, description = "there is no such segment"),
        (status = 503, body = ErrorBody, description = "none is kept here, or the disk is away"),
    ))]
pub(crate) async fn of_recording(
    State(shared): Context,
    OfRoom(room, recording, segment): OfRoom,
    Params(range): Params<RangeParams>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    segment_of(&shared, Source::room(&room), recording, segment, range, headers).await
}

async fn segment_of(
    shared: &Shared,
    source: Source,
    recording: Recording,
    segment: u32,
    range: RangeParams,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let danmaku = kept(shared)?;
    let range = range.from_ms.unwrap_or(0)..range.to_ms.unwrap_or(u32::MAX);
    let found = off(move || {
        let view = danmaku.segment(&source, recording, segment)?;
        view.map(|view| super::segments::shown(view, &range, &headers)).transpose()
    });
    found.await?.ok_or_else(|| {
        let text = "there is no such segment; one without lines is not there";
        ApiError::new(Code::NotFound, text)
    })
}

/// Lists the segments of a video.
#[utoipa::path(get, path = "/v1/videos/{video}/danmaku", tag = "danmaku",
    params(("video" = String, Path, description = "the platform's name of the video")),
    responses(
        (status = 200, body = Segments),
        (status = 304, description = "It is what If-None-Match names."),
        (status = 503, body = ErrorBody, description = "none is kept here, or the disk is away"),
    ))]
pub(crate) async fn of_video(
    State(shared): Context,
    Video(video): Video,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let danmaku = kept(&shared)?;
    off(move || {
        let view = danmaku.video(&Source::video(&video))?;
        let segment_ms = danmaku.config().segment_s * 1_000;
        let none = Segments { segment_ms, lines_lost: 0, segments: Vec::new() };
        let body = view.as_ref().map_or(none, segments_of);
        Ok(answered(serde_json::to_vec(&body)?, Asked::json(&headers, 1)))
    })
    .await
}

/// A segment of a video, as those of rooms are.
#[utoipa::path(get, path = "/v1/videos/{video}/danmaku/{segment}", tag = "danmaku",
    params(
        ("video" = String, Path, description = "the platform's name of the video"),
        ("segment" = u32, Path, description = "from 0 on"),
        RangeParams,
    ),
    responses(
        (status = 200, content(
            (super::segments::SegmentView = "application/json"),
            (Vec<u8> = "application/x-protobuf"),
        )),
        (status = 304, description = "It is what If-None-Match names."),
        (status = 404, body = ErrorBody, description = "there is no such segment"),
        (status = 503, body = ErrorBody, description = "none is kept here, or the disk is away"),
    ))]
pub(crate) async fn of_video_segment(
    State(shared): Context,
    OfVideo(video, segment): OfVideo,
    Params(range): Params<RangeParams>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    segment_of(&shared, Source::video(&video), Recording::of_video(), segment, range, headers).await
}

/// Writes a line to a moment of a video. It is seen at once, and on the disk half a second later.
#[utoipa::path(post, path = "/v1/videos/{video}/danmaku", tag = "danmaku",
    request_body = VideoLine,
    params(("video" = String, Path, description = "the platform's name of the video")),
    responses(
        (status = 201, body = WrittenLine),
        (status = 400, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "too many lines of this user"),
    ), security(("access_token" = [])))]
pub(crate) async fn write(
    State(shared): Context,
    User(caller): User,
    Video(video): Video,
    Body(line): Body<VideoLine>,
) -> Result<(StatusCode, Json<WrittenLine>), ApiError> {
    let danmaku = kept(&shared)?;
    let VideoLine { text, offset_ms } = line;
    let bytes_max = danmaku.config().video_text_bytes_max as usize;
    if text.trim().is_empty() {
        return Err(ApiError::from_code(Code::Empty));
    }
    if text.len() > bytes_max {
        let text = format!("text has {} bytes; allowed are 1 to {bytes_max}", text.len());
        return Err(ApiError::new(Code::TooLarge, text));
    }
    if offset_ms > VIDEO_MS_MAX {
        let text = format!("offset_ms is {offset_ms}; allowed is 0 to {VIDEO_MS_MAX}");
        return Err(ApiError::bad_request(text));
    }
    danmaku.may_write(caller.user).map_err(Fault::slow_down)?;
    if shared.api.filters.as_ref().is_some_and(|filters| filters.is_hit(&text)) {
        return Err(ApiError::from_code(Code::Filtered));
    }
    let written = off(move || Ok(danmaku.write(&video, &caller.name, text, offset_ms)));
    let seq = written.await?.map_err(|lost| match lost {
        Lost::Store => ApiError::from_code(Code::StoreDown),
        _ => ApiError::new(Code::QueueFull, "as many lines are written now as there may be"),
    })?;
    Ok((StatusCode::CREATED, Json(WrittenLine { seq })))
}

impl RecallLines {
    /// Which life of a room, and which lines.
    fn meant(self, has_epochs: bool) -> Result<(Option<u64>, Recalled), ApiError> {
        let epoch = |text: &str| u64::from_str_radix(text, 16).ok();
        match (self.seq, self.epoch.as_deref(), self.user) {
            (Some(seq), Some(text), None) if has_epochs => match epoch(text) {
                Some(epoch) => Ok((Some(epoch), Recalled::Line(seq))),
                None => Err(ApiError::bad_request("epoch is not hexadecimal")),
            },
            (Some(seq), None, None) if !has_epochs => Ok((None, Recalled::Line(seq))),
            (None, None, Some(user)) => {
                check_user(&user)?;
                Ok((None, Recalled::Of(user, u64::MAX)))
            }
            _ if has_epochs => {
                Err(ApiError::bad_request("what is meant is epoch and seq, or user alone"))
            }
            _ => Err(ApiError::bad_request("what is meant is seq, or user alone")),
        }
    }
}

/// Recalls a line of a room's danmaku, or all lines of a user in it: they are in no segment any
/// more once this is answered. Viewers that are there keep what they saw.
#[utoipa::path(post, path = "/v1/rooms/{room}/danmaku/recall", tag = "danmaku",
    request_body = RecallLines,
    params(("room" = String, Path, description = "the room's name")),
    responses((status = 200, body = RecalledLines)), security(("api_key" = [])))]
pub(crate) async fn recall_of_room(
    State(shared): Context,
    actor: Actor,
    Room(room): Room,
    Body(body): Body<RecallLines>,
) -> Result<Json<RecalledLines>, ApiError> {
    let (epoch, which) = body.meant(true)?;
    let entry = actor.entry("danmaku.recall", room.as_str());
    recall(&shared, entry, Source::room(&room), epoch, which).await
}

/// The same of a video.
#[utoipa::path(post, path = "/v1/videos/{video}/danmaku/recall", tag = "danmaku",
    request_body = RecallLines,
    params(("video" = String, Path, description = "the platform's name of the video")),
    responses((status = 200, body = RecalledLines)), security(("api_key" = [])))]
pub(crate) async fn recall_of_video(
    State(shared): Context,
    actor: Actor,
    Video(video): Video,
    Body(body): Body<RecallLines>,
) -> Result<Json<RecalledLines>, ApiError> {
    let (epoch, which) = body.meant(false)?;
    let detail = format!("video={video} ");
    let entry = Entry { detail, ..actor.entry("danmaku.recall", "") };
    recall(&shared, entry, Source::video(&video), epoch, which).await
}

async fn recall(
    shared: &Shared,
    mut entry: Entry,
    source: Source,
    epoch: Option<u64>,
    which: Recalled,
) -> Result<Json<RecalledLines>, ApiError> {
    let danmaku = kept(shared)?;
    if let Recalled::Of(user, _) = &which {
        entry.whom.clone_from(user);
    }
    let recalled = off(move || danmaku.recall(&source, epoch, &which)).await?;
    entry.detail += &format!("lines={recalled}");
    shared.audit.write(vec![entry]).await;
    Ok(Json(RecalledLines { recalled }))
}
