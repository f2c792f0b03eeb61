//! Quality reports over HTTP: clients bring them, operators ask what they come to.

use super::caller::{Origin, Token, elsewhere};
use super::errors::{ApiError, ErrorBody};
use super::extract::{Params, body_bytes};
use super::{Context, Shared};
use crate::process::unix_ms;
use crate::quality::alarm::Alarm;
use crate::quality::cell::Cell;
use crate::quality::config::QualityConfig;
use crate::quality::door::{Refused, check_each, check_many, check_size, of_proto};
use crate::quality::query::{Groups, Query};
use crate::quality::report::{Dimension, Key, Metric, OTHER, Report, Side, Start, TOTALS, Total};
use crate::quality::windows::Level;
use crate::store::quality as rows;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Body of `POST /v1/quality/reports`: `QualityReports` of `quality.proto`, where fields are
/// explained.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QualityReports {
    reports: Vec<QualityReport>,
}

/// What one session reports.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QualityReport {
    /// A random text that the client makes when it begins to play or push.
    #[schema(example = "6f1c0d2a9b8e7f60")]
    sid: String,
    /// 1 for the session's first report, and one more each time.
    #[schema(example = 1)]
    batch: u32,
    /// How long ago the session began, in milliseconds.
    age_ms: u64,
    side: Side,
    #[serde(default)]
    room: String,
    #[serde(default)]
    cdn: String,
    #[serde(default)]
    region: String,
    #[serde(default)]
    isp: String,
    #[serde(default)]
    platform: String,
    /// Counted since the session began; what is left out is 0.
    #[serde(default)]
    totals: BTreeMap<Total, u64>,
    /// Measured since the report before.
    #[serde(default)]
    samples: BTreeMap<Metric, Vec<u32>>,
    /// Starts since the report before.
    #[serde(default)]
    starts: Vec<QualityStart>,
}

/// How long a start took, in milliseconds.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QualityStart {
    dns: Option<u32>,
    connect: Option<u32>,
    ttfb: Option<u32>,
    decode: Option<u32>,
    msd: Option<u32>,
}

impl From<QualityReport> for Report {
    fn from(body: QualityReport) -> Report {
        let QualityReport { sid, batch, age_ms, side, room, cdn, region, isp, platform, .. } = body;
        let mut totals = [0; TOTALS];
        body.totals.into_iter().for_each(|(total, value)| totals[total as usize] = value);
        let values = |(metric, values): (Metric, Vec<u32>)| {
            values.into_iter().map(move |value| (metric, value))
        };
        let start = |start: QualityStart| {
            let QualityStart { dns, connect, ttfb, decode, msd } = start;
            Start { dns, connect, ttfb, decode, msd }
        };
        let key = Key { side, room, cdn, region, isp, platform };
        let samples = body.samples.into_iter().flat_map(values).collect();
        let starts = body.starts.into_iter().map(start).collect();
        Report { sid, batch, age_ms, key, totals, samples, starts }
    }
}

/// What became of reports.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QualityTaken {
    /// Counted.
    taken: u32,
    /// Counted before, or overtaken by a later one of their session: they change nothing.
    repeated: u32,
}

/// Takes reports of the quality of streams, of viewers and of whoever streams: with an access
/// token, or as a guest where quality.guests is true. One that breaks a rule refuses the whole
/// request. The same request again changes nothing.
#[utoipa::path(post, path = "/v1/quality/reports", tag = "quality",
    request_body(content((QualityReports = "application/json"),
        (Vec<u8> = "application/x-protobuf"))),
    responses((status = 200, body = QualityTaken),
        (status = 401, body = ErrorBody,
            description = "The access token is not good (any more), or guests are not taken."),
        (status = 403, body = ErrorBody,
            description = "The caller is banned, or its address or device is blocked."),
        (status = 413, body = ErrorBody,
            description = "The body is larger than quality.body_bytes_max."),
        (status = 415, body = ErrorBody,
            description = "The body did not come as application/json or application/x-protobuf."),
        (status = 429, body = ErrorBody, description = "Retry-After tells when"),
        (status = 503, body = ErrorBody,
            description = "There is a token, and no store to look it up in, or no answer.")))]
pub(crate) async fn take(
    State(shared): Context,
    Origin(from): Origin,
    token: Token,
    request: Request,
) -> Result<Json<QualityTaken>, ApiError> {
    elsewhere(&shared)?;
    let user = match &token {
        Token::Guest => None,
        Token::User(user) => Some(user.name.as_str()),
    };
    let door = &shared.api.quality;
    door.admit(user, Some(from))?;
    let reports = read(&shared, request).await.inspect_err(|_| door.refused())?;
    let source = door.source(user, Some(from), ());
    let taken = door.count(reports, (Some(from), source));
    Ok(Json(QualityTaken { taken: taken.taken, repeated: taken.repeated }))
}

/// The door of reports: for backends, apps, and pages of any site.
pub(crate) fn reports() -> MethodRouter<Arc<Shared>> {
    post(take).options(preflight).layer(map_response(for_any_page))
}

/// How long a browser need not ask again whether a page may report, in seconds.
const PREFLIGHT_S: &str = "86400";

/// Tells a browser that a page of any site may report, with a token or without: before such a
/// report the browser asks. Nothing that it would add by itself (a cookie) is looked at.
#[utoipa::path(options, path = "/v1/quality/reports", tag = "quality",
    responses((status = 204, description = "The headers `Access-Control-Allow-*` tell what.")))]
pub(crate) async fn preflight() -> impl IntoResponse {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type"),
        (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_S),
    ];
    (StatusCode::NO_CONTENT, headers)
}

/// Lets a page of any site read an answer, which says nothing about anybody; refusals too, or it
/// would take them for a network that is away.
async fn for_any_page(mut response: Response) -> Response {
    let any = HeaderValue::from_static("*");
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
    response
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> ApiError {
        let Refused { code, text, wait_ms } = refused;
        ApiError { retry_after_s: wait_ms.div_ceil(1_000), ..ApiError::new(code, text) }
    }
}

/// The reports of a body, each checked.
async fn read(shared: &Arc<Shared>, request: Request) -> Result<Vec<Report>, ApiError> {
    let config = shared.quality.config();
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_owned();
    let is_json = kind.eq_ignore_ascii_case("application/json");
    if !is_json && !kind.eq_ignore_ascii_case("application/x-protobuf") {
        let text = "the body must come with Content-Type: application/json or \
                    application/x-protobuf";
        return Err(ApiError::bad_request(text).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let bytes = body_bytes(request, shared).await?;
    checked(bytes, is_json, config)
}

fn checked(bytes: Bytes, is_json: bool, config: &QualityConfig) -> Result<Vec<Report>, ApiError> {
    if !is_json {
        return Ok(of_proto(bytes, config)?);
    }
    check_size(&bytes, config)?;
    // Read as a list of fields in their order, it would be taken.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(ApiError::bad_request("the body is a list; it must be an object"));
    }
    let body: QualityReports =
        serde_json::from_slice(&bytes).map_err(|e| ApiError::bad_request(e.to_string()))?;
    check_many(body.reports.len(), config)?;
    let reports: Vec<Report> = body.reports.into_iter().map(Report::from).collect();
    check_each(&reports)?;
    Ok(reports)
}

/// The length of the windows an answer is put together from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub(crate) enum QualityStep {
    /// The last five minutes of this node.
    #[serde(rename = "10s")]
    Fine,
    #[default]
    #[serde(rename = "1m")]
    Minute,
    #[serde(rename = "1h")]
    Hour,
}

impl QualityStep {
    fn level(self) -> Level {
        match self {
            QualityStep::Fine => Level::Fine,
            QualityStep::Minute => Level::Minute,
            QualityStep::Hour => Level::Hour,
        }
    }
}

/// Which reports.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct QualityParams {
    /// From this moment on; an hour before `to_unix_ms`, where it is left out.
    from_unix_ms: Option<i64>,
    /// Until this moment; now, where it is left out. Both are widened to whole windows.
    to_unix_ms: Option<i64>,
    /// The windows: `10s`, `1m` (the default), `1h`.
    step: Option<QualityStep>,
    /// What to tell apart, with commas: `side`, `room`, `cdn`, `region`, `isp`, `platform`, `time`.
    /// Left out: `side`.
    by: Option<String>,
    /// Only this side.
    side: Option<Side>,
    room: Option<String>,
    cdn: Option<String>,
    region: Option<String>,
    isp: Option<String>,
    platform: Option<String>,
}

/// What was reported, in groups.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QualityView {
    /// The time it is about, in whole windows. It begins later than was asked for where that would
    /// have been more than 100,000 stored rows: ask again for what was before, or by the hour.
    from_unix_ms: i64,
    to_unix_ms: i64,
    step: QualityStep,
    groups: Vec<QualityGroup>,
    /// Groups that are in none of these but in `other`: an answer has the 2,000 with the most
    /// sessions.
    in_other: u64,
}

/// One group. A rate or a metric that nobody reported is left out.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QualityGroup {
    /// The beginning of its window; where `by` has `time`.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_unix_ms: Option<i64>,
    /// What it is told apart by.
    cell: BTreeMap<&'static str, String>,
    /// Sessions at once, on average over the time it is about.
    sessions: f64,
    totals: BTreeMap<Total, u64>,
    rates: QualityRates,
    metrics: BTreeMap<Metric, QualityPercentiles>,
}

/// Rates that totals give.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QualityRates {
    /// Of the time, the share that it stood still.
    #[serde(skip_serializing_if = "Option::is_none")]
    stall_ratio: Option<f64>,
    /// Of the starts asked for, the share that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    start_failure_ratio: Option<f64>,
    /// Of the starts asked for, the share whose user went before the first frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_before_start_ratio: Option<f64>,
    /// Of all frames, the share that was dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    frame_drop_ratio: Option<f64>,
    /// Times it broke off for each hour played.
    #[serde(skip_serializing_if = "Option::is_none")]
    playback_failures_per_hour: Option<f64>,
}

/// Values of a metric: percentiles within one percent, the mean exactly.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QualityPercentiles {
    count: u64,
    mean: f64,
    p50: f64,
    p95: f64,
    p99: f64,
}

impl QualityGroup {
    fn of(query: &Query, (start_ms, texts): (i64, Vec<String>), cell: &Cell) -> QualityGroup {
        let to_ms = query.to_ms.min(unix_ms());
        let whole_ms = if query.by_time { query.level.span_ms() } else { to_ms - query.from_ms };
        let words = query.by.iter().map(|dimension| dimension.word());
        let percentiles = |(metric, sketch): &(Metric, crate::quality::sketch::Sketch)| {
            let at = |q| sketch.quantile(q).unwrap_or(0.0);
            let (count, mean) = (sketch.count(), sketch.mean());
            let of = QualityPercentiles { count, mean, p50: at(0.5), p95: at(0.95), p99: at(0.99) };
            (*metric, of)
        };
        QualityGroup {
            time_unix_ms: query.by_time.then_some(start_ms),
            cell: words.zip(texts).collect(),
            sessions: cell.plays() as f64 * Level::Fine.span_ms() as f64 / whole_ms.max(1) as f64,
            totals: Total::ALL.iter().map(|total| (*total, cell.total(*total))).collect(),
            rates: QualityRates {
                stall_ratio: cell.stall_ratio(),
                start_failure_ratio: cell.start_failure_ratio(),
                exit_before_start_ratio: cell.exit_before_start_ratio(),
                frame_drop_ratio: cell.frame_drop_ratio(),
                playback_failures_per_hour: cell.playback_failures_per_hour(),
            },
            metrics: cell.sketches().iter().map(percentiles).collect(),
        }
    }
}

/// Tells what viewers and whoever streams reported: rates and percentiles, in groups, of minutes
/// or hours that are stored and of what is still counted.
#[utoipa::path(get, path = "/v1/quality", tag = "quality", params(QualityParams),
    responses((status = 200, body = QualityView)), security(("api_key" = [])))]
pub(crate) async fn read_groups(
    State(shared): Context,
    Params(params): Params<QualityParams>,
) -> Result<Json<QualityView>, ApiError> {
    elsewhere(&shared)?;
    let (by, by_time) = dimensions(params.by.as_deref().unwrap_or("side"))?;
    let step = params.step.unwrap_or_default();
    let query = query(params, by, by_time)?;
    let (query, groups) = gather(&shared, query).await?;
    let group = |(place, cell): (_, Cell)| QualityGroup::of(&query, place, &cell);
    Ok(Json(QualityView {
        from_unix_ms: query.from_ms,
        to_unix_ms: query.to_ms,
        step,
        in_other: groups.in_other,
        groups: groups.cells.into_iter().map(group).collect(),
    }))
}

/// What a heatmap shows.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct QualityHeatmapParams {
    /// A metric (`msd`, `ltc`, ...) or a rate (`stall_ratio`, `start_failure_ratio`,
    /// `exit_before_start_ratio`, `frame_drop_ratio`). Left out: `stall_ratio`.
    metric: Option<String>,
    /// Of a metric, the percentile: 1 to 100. Left out: 95.
    percentile: Option<u32>,
    /// From this moment on; an hour before `to_unix_ms`, where it is left out.
    from_unix_ms: Option<i64>,
    /// Until this moment; now, where it is left out.
    to_unix_ms: Option<i64>,
    /// The windows: `10s`, `1m` (the default), `1h`.
    step: Option<QualityStep>,
    /// Left out: `play`.
    side: Option<Side>,
    /// Only this room.
    room: Option<String>,
}

/// Rows and columns of a heatmap. More: those with the fewest sessions are one, `other`.
const NAMES_MAX: usize = 100;

/// A value for each CDN and ISP; of each the 100 with the most sessions, and `other`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QualityHeatmap {
    metric: String,
    /// Rows, in the order of their names.
    cdns: Vec<String>,
    /// Columns, in the order of their names.
    isps: Vec<String>,
    /// By row, then by column; null where nothing was reported.
    values: Vec<Vec<Option<f64>>>,
}

/// Tells one metric or rate for each CDN and ISP.
#[utoipa::path(get, path = "/v1/quality/heatmap", tag = "quality", params(QualityHeatmapParams),
    responses((status = 200, body = QualityHeatmap)), security(("api_key" = [])))]
pub(crate) async fn heatmap(
    State(shared): Context,
    Params(params): Params<QualityHeatmapParams>,
) -> Result<Json<QualityHeatmap>, ApiError> {
    elsewhere(&shared)?;
    let metric = params.metric.unwrap_or_else(|| "stall_ratio".to_owned());
    let percentile = params.percentile.unwrap_or(95);
    if !(1..=100).contains(&percentile) {
        let text = format!("percentile is {percentile}; allowed is 1 to 100");
        return Err(ApiError::bad_request(text));
    }
    let value = reader(&metric, percentile)?;
    let QualityHeatmapParams { from_unix_ms, to_unix_ms, step, side, room, .. } = params;
    let side = Some(side.unwrap_or(Side::Play));
    let (by, none) = (None, || None);
    let (cdn, region, isp, platform) = (none(), none(), none(), none());
    let params = QualityParams {
        from_unix_ms,
        to_unix_ms,
        step,
        by,
        side,
        room,
        cdn,
        region,
        isp,
        platform,
    };
    let query = query(params, vec![Dimension::Cdn, Dimension::Isp], false)?;
    let (_, groups) = gather(&shared, query).await?;
    let ([cdns, isps], cells) = crossed(groups);
    let cell = |cdn: &String, isp: &String| cells.get(&[cdn.clone(), isp.clone()]).and_then(&value);
    let row = |cdn| isps.iter().map(|isp| cell(cdn, isp)).collect();
    let values = cdns.iter().map(row).collect();
    Ok(Json(QualityHeatmap { metric, cdns, isps, values }))
}

/// The rows and columns of groups by two dimensions, and the cells where they meet: of each the
/// names with the most sessions, the rest together.
fn crossed(groups: Groups) -> ([Vec<String>; 2], BTreeMap<[String; 2], Cell>) {
    let kept = [0, 1].map(|at| {
        let mut plays = BTreeMap::<&str, u64>::new();
        for ((_, texts), cell) in &groups.cells {
            *plays.entry(&texts[at]).or_default() += cell.plays();
        }
        let mut names: Vec<(&str, u64)> = plays.into_iter().collect();
        names.sort_by_key(|(_, plays)| std::cmp::Reverse(*plays));
        names.into_iter().take(NAMES_MAX).map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
    });
    let mut cells = BTreeMap::<[String; 2], Cell>::new();
    for ((_, texts), cell) in groups.cells {
        let name = |at: usize| match kept[at].contains(&texts[at]) {
            true => texts[at].clone(),
            false => OTHER.to_owned(),
        };
        cells.entry([name(0), name(1)]).or_default().merge(&cell);
    }
    let names = [0, 1].map(|at| {
        let mut names: Vec<String> = cells.keys().map(|place| place[at].clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    });
    (names, cells)
}

/// Reads a metric or a rate from a cell.
type Reader = Box<dyn Fn(&Cell) -> Option<f64> + Send>;

/// The reader of this name.
fn reader(name: &str, percentile: u32) -> Result<Reader, ApiError> {
    if let Some(metric) = Metric::ALL.iter().find(|metric| metric.word() == name) {
        let q = f64::from(percentile) / 100.0;
        return Ok(Box::new(move |cell| cell.sketch(*metric)?.quantile(q)));
    }
    match name {
        "stall_ratio" => Ok(Box::new(Cell::stall_ratio)),
        "start_failure_ratio" => Ok(Box::new(Cell::start_failure_ratio)),
        "exit_before_start_ratio" => Ok(Box::new(Cell::exit_before_start_ratio)),
        "frame_drop_ratio" => Ok(Box::new(Cell::frame_drop_ratio)),
        _ => {
            let metrics: Vec<&str> = Metric::ALL.iter().map(|metric| metric.word()).collect();
            let shown: String = name.chars().take(80).collect();
            Err(ApiError::bad_request(format!(
                "metric is {shown:?}; allowed are stall_ratio, start_failure_ratio, \
                 exit_before_start_ratio, frame_drop_ratio, {}",
                metrics.join(", ")
            )))
        }
    }
}

/// Alarms of this node.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QualityAlarms {
    /// The longest first.
    raised: Vec<Alarm>,
    /// The latest first; 100 at most, since the node started.
    cleared: Vec<Alarm>,
}

/// Tells which alarms are raised, and which were cleared lately.
#[utoipa::path(get, path = "/v1/quality/alarms", tag = "quality",
    responses((status = 200, body = QualityAlarms)), security(("api_key" = [])))]
pub(crate) async fn alarms(State(shared): Context) -> Result<Json<QualityAlarms>, ApiError> {
    elsewhere(&shared)?;
    let board = shared.quality.board();
    Ok(Json(QualityAlarms { raised: board.alarms.raised(), cleared: board.alarms.cleared() }))
}

/// The names of `by`; and whether `time` is among them.
fn dimensions(by: &str) -> Result<(Vec<Dimension>, bool), ApiError> {
    let (mut list, mut by_time) = (Vec::new(), false);
    for word in by.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match Dimension::ALL.iter().find(|dimension| dimension.word() == word) {
            Some(dimension) if !list.contains(dimension) => list.push(*dimension),
            None if word == "time" => by_time = true,
            Some(_) => {}
            None => {
                let shown: String = word.chars().take(80).collect();
                return Err(ApiError::bad_request(format!(
                    "by has {shown:?}; allowed are side, room, cdn, region, isp, platform, time"
                )));
            }
        }
    }
    Ok((list, by_time))
}

fn query(params: QualityParams, by: Vec<Dimension>, by_time: bool) -> Result<Query, ApiError> {
    let QualityParams { from_unix_ms, to_unix_ms, step, side, room, cdn, region, isp, .. } = params;
    let to_ms = to_unix_ms.unwrap_or_else(unix_ms);
    let from_ms = from_unix_ms.unwrap_or_else(|| to_ms.saturating_sub(3_600_000).max(0));
    let texts = [
        (Dimension::Side, side.map(|side| side.word().to_owned())),
        (Dimension::Room, room),
        (Dimension::Cdn, cdn),
        (Dimension::Region, region),
        (Dimension::Isp, isp),
        (Dimension::Platform, params.platform),
    ];
    let filter = texts.into_iter().filter_map(|(dimension, text)| Some((dimension, text?)));
    let (level, filter) = (step.unwrap_or_default().level(), filter.collect());
    let query = Query { level, from_ms, to_ms, by, by_time, filter };
    query.widened().map_err(ApiError::bad_request)
}

/// From memory, and from the store what memory has not; and the question that is answered, whose
/// time is shorter where it would be too many rows.
async fn gather(shared: &Shared, mut query: Query) -> Result<(Query, Groups), ApiError> {
    loop {
        let mut groups = Groups::default();
        let range = (query.from_ms, query.to_ms);
        let own_ms = shared.quality.visit(query.level, range, |start_ms, key, cell| {
            if query.wants(key) {
                groups.add(&query, start_ms, key, cell);
            }
        });
        let own = (shared.quality.node(), own_ms);
        let store = shared.api.store.as_ref().filter(|_| query.level != Level::Fine);
        let cut = match store {
            Some(store) => rows::gather(store, &query, own, &mut groups).await?,
            None => None,
        };
        // What memory has of the time before would stand beside what is not read of it.
        match cut {
            Some(from_ms) => query.from_ms = from_ms,
            None => {
                groups.bound(&query);
                return Ok((query, groups));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quality::Quality;
    use crate::quality::sources::Source;
    use prost::Message as _;
    use uproar_proto::v1;

    const NOW: i64 = 1_800_000_000_000;
    const SESSIONS: u32 = 1_000;

    /// One session's report in either form.
    fn session(batch: u32, n: u32) -> (v1::QualityReport, serde_json::Value) {
        let (cdn, isp) = (format!("cdn-{}", n % 4), format!("isp-{}", n % 25));
        let values = |of: u32| (0..10).map(|i| of + (n * 7 + i * 13) % 500).collect::<Vec<u32>>();
        let (ltc, bl, rtt) = (values(2_000), values(300), values(20));
        let (played_ms, stall_ms) = (u64::from(batch) * 9_900, u64::from(batch) * 100);
        let totals = v1::QualityTotals { played_ms, stall_ms, ..Default::default() };
        let json = serde_json::json!({"sid": format!("session-{n:08}"), "batch": batch,
            "age_ms": batch * 10_000, "side": "play", "room": "stage", "cdn": cdn, "isp": isp,
            "platform": "web", "totals": {"played_ms": played_ms, "stall_ms": stall_ms},
            "samples": {"ltc": ltc, "bl": bl, "rtt": rtt}});
        let wire = v1::QualityReport {
            sid: format!("session-{n:08}"),
            batch,
            age_ms: u64::from(batch) * 10_000,
            side: v1::QualitySide::Play.into(),
            room: "stage".into(),
            cdn,
            isp,
            platform: "web".into(),
            totals: Some(totals),
            samples: Some(v1::QualitySamples { ltc, bl, rtt, ..Default::default() }),
            ..Default::default()
        };
        (wire, json)
    }

    /// Ten batches of a thousand sessions, a hundred reports a request, as both bodies.
    fn bodies() -> Vec<(Bytes, Bytes)> {
        let body = |batch: u32, from: u32| {
            let all = (from..from + 100).map(|n| session(batch, n));
            let (reports, jsons): (Vec<_>, Vec<_>) = all.unzip();
            let wire = v1::QualityReports { reports }.encode_to_vec();
            let json = serde_json::json!({"reports": jsons}).to_string();
            (wire.into(), json.into())
        };
        let froms = || (0..SESSIONS).step_by(100);
        let all = (1..=10).flat_map(|batch| froms().map(move |from| (batch, from)));
        all.map(|(batch, from)| body(batch, from)).collect()
    }

    /// Nanoseconds that this thread had a core.
    fn cpu_ns() -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    }

    /// From the bytes of a body to windows that closed: what a report costs a core but for HTTP.
    #[test]
    fn reports_in_either_form_come_to_the_same_and_their_pace_is_told() {
        let (bodies, mut told) = (bodies(), Vec::new());
        for is_json in [false, true] {
            let quality = Quality::new(QualityConfig::default(), NOW);
            let begun_ns = cpu_ns();
            let mut taken = 0;
            for (at, (wire, json)) in bodies.iter().enumerate() {
                let now_ms = NOW + 10_000 + at as i64 * 1_000;
                let body = if is_json { json.clone() } else { wire.clone() };
                let reports = checked(body, is_json, quality.config()).unwrap();
                taken += quality.take(&reports, Source::of(at as u64, false), now_ms).taken;
                quality.tick(now_ms);
            }
            let per_s = f64::from(taken) * 1e9 / (cpu_ns() - begun_ns) as f64;
            let form = if is_json { "JSON" } else { "protobuf" };
            println!("{form}: {per_s:.0} reports a second of a core's time");
            assert_eq!(taken, 10 * SESSIONS);
            let mut cells = Vec::new();
            quality.visit(Level::Hour, (0, i64::MAX), |_, key, cell| {
                cells.push((key.clone(), cell.clone()));
            });
            cells.sort_by(|one, other| one.0.cmp(&other.0));
            assert_eq!(cells.iter().map(|(_, cell)| cell.values()).sum::<u64>(), 300_000);
            told.push(cells);
        }
        assert_eq!(told[0], told[1]);
    }
}
