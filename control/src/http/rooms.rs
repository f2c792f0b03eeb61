//! Rooms: create, list, get, update, close.

use super::actor::Actor;
use super::errors::{ApiError, ErrorBody};
use super::extract::{Body, Params, Room, room_id};
use super::{Context, Shared, UPDATE_LOCKS};
use crate::audit::Entry;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use uproar_proto::control::{
    BeforePublish, Command, Present, RoomInfo, RoomSettings, SAMPLE_USERS_MAX, Which,
};
use uproar_proto::ids::RoomId;
use utoipa::{IntoParams, ToSchema};

/// Rooms on a page where the caller does not say.
const PAGE_ROOMS_DEFAULT: usize = 100;

/// Users of a sample where the caller does not say.
const SAMPLE_USERS_DEFAULT: usize = 100;

/// A room as the node sees it now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Room)]
pub(crate) struct RoomView {
    #[schema(example = "stage")]
    room: String,
    settings: SettingsView,
    /// Names this life of the room; hexadecimal, compared for equality only.
    epoch: String,
    /// The newest seq.
    seq: u64,
    /// Connections in the room.
    viewers: u64,
    /// Likes since the room began.
    likes: u64,
    /// Rises with each change of the attributes.
    attributes_version: u64,
    /// Shards with at least one member.
    shards: u32,
}

/// What a room is set to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Settings)]
pub(crate) struct SettingsView {
    /// Free text of the application; at most 16 keys, 16 KiB in all.
    attributes: BTreeMap<String, String>,
    /// Messages a second the room admits; 1 to 10,000.
    rate_per_s: u32,
    /// Messages a second one user may offer; 1 to 1,000.
    user_rate_per_s: u32,
    /// Seconds between two messages of one user; 0: no slow mode.
    slow_mode_s: u32,
    /// The largest content, in bytes.
    payload_bytes_max: u32,
    /// Viewers the room takes; 0: no bound but the node's.
    viewers_max: u32,
    /// Whether guests may publish here.
    guests_publish: bool,
    /// Whether text is held against the list of `/v1/filter`.
    filter: bool,
    /// Nobody may publish but moderators, backends and those of `allowed`; likes pass.
    mute_all: bool,
    /// Users whom neither `mute_all`, `slow_mode_s` nor `followers_only_s` concerns.
    allowed: BTreeSet<String>,
    /// A chat text that was accepted within so many seconds is refused; 0: it may come again.
    unique_s: u32,
    /// What is admitted reaches viewers so many milliseconds later, moderators at once.
    delay_ms: u32,
    /// Members are told who comes in: each up to 500 viewers, a few beyond.
    enter_events: bool,
    /// Whether the platform's webhook decides about chat and gifts before anybody sees them.
    before_publish: BeforePublishView,
    /// Chat is for who follows the room for at least so many seconds, as tokens tell (`follows`),
    /// moderators, backends and those of `allowed`; `null`: for everybody.
    followers_only_s: Option<u32>,
}

/// Whether a webhook with `publish.before` is asked, and what holds where it does not decide in
/// time: `open`: a message passes; `closed`: it is refused with `HOOK_DOWN`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = BeforePublish)]
pub(crate) enum BeforePublishView {
    Off,
    Open,
    Closed,
}

impl From<BeforePublish> for BeforePublishView {
    fn from(setting: BeforePublish) -> BeforePublishView {
        match setting {
            BeforePublish::Off => BeforePublishView::Off,
            BeforePublish::Open => BeforePublishView::Open,
            BeforePublish::Closed => BeforePublishView::Closed,
        }
    }
}

impl From<BeforePublishView> for BeforePublish {
    fn from(view: BeforePublishView) -> BeforePublish {
        match view {
            BeforePublishView::Off => BeforePublish::Off,
            BeforePublishView::Open => BeforePublish::Open,
            BeforePublishView::Closed => BeforePublish::Closed,
        }
    }
}

/// A page of rooms, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RoomPage {
    rooms: Vec<RoomView>,
    /// Pass it as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A room to create. What is left out is as `engine.rooms.defaults` says.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateRoom {
    /// 1 to 64 bytes of `A-Z a-z 0-9 . _ : -`, not `.` or `..`.
    #[schema(example = "stage")]
    room: String,
    attributes: Option<BTreeMap<String, String>>,
    rate_per_s: Option<u32>,
    user_rate_per_s: Option<u32>,
    slow_mode_s: Option<u32>,
    payload_bytes_max: Option<u32>,
    viewers_max: Option<u32>,
    guests_publish: Option<bool>,
    filter: Option<bool>,
    mute_all: Option<bool>,
    /// At most 1,000 names.
    allowed: Option<BTreeSet<String>>,
    unique_s: Option<u32>,
    /// Up to 5,000.
    delay_ms: Option<u32>,
    enter_events: Option<bool>,
    before_publish: Option<BeforePublishView>,
    /// Up to 31,536,000; `null`: off.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    followers_only_s: Option<Option<u32>>,
}

/// Settings to change. What is left out stays; `attributes` replaces all of them.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateRoom {
    attributes: Option<BTreeMap<String, String>>,
    rate_per_s: Option<u32>,
    user_rate_per_s: Option<u32>,
    slow_mode_s: Option<u32>,
    payload_bytes_max: Option<u32>,
    viewers_max: Option<u32>,
    guests_publish: Option<bool>,
    filter: Option<bool>,
    mute_all: Option<bool>,
    /// At most 1,000 names.
    allowed: Option<BTreeSet<String>>,
    unique_s: Option<u32>,
    /// Up to 5,000.
    delay_ms: Option<u32>,
    enter_events: Option<bool>,
    before_publish: Option<BeforePublishView>,
    /// Up to 31,536,000; `null`: off.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    followers_only_s: Option<Option<u32>>,
}

/// Tells `null`, which is a value here, from what is left out.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<u32>>, D::Error> {
    Option::<u32>::deserialize(from).map(Some)
}

impl UpdateRoom {
    fn over(self, base: RoomSettings) -> RoomSettings {
        RoomSettings {
            attributes: self.attributes.unwrap_or(base.attributes),
            rate_per_s: self.rate_per_s.unwrap_or(base.rate_per_s),
            user_rate_per_s: self.user_rate_per_s.unwrap_or(base.user_rate_per_s),
            slow_mode_s: self.slow_mode_s.unwrap_or(base.slow_mode_s),
            payload_bytes_max: self.payload_bytes_max.unwrap_or(base.payload_bytes_max),
            viewers_max: self.viewers_max.unwrap_or(base.viewers_max),
            guests_publish: self.guests_publish.unwrap_or(base.guests_publish),
            filter: self.filter.unwrap_or(base.filter),
            mute_all: self.mute_all.unwrap_or(base.mute_all),
            allowed: self.allowed.unwrap_or(base.allowed),
            unique_s: self.unique_s.unwrap_or(base.unique_s),
            delay_ms: self.delay_ms.unwrap_or(base.delay_ms),
            enter_events: self.enter_events.unwrap_or(base.enter_events),
            before_publish: self.before_publish.map_or(base.before_publish, BeforePublish::from),
            followers_only_s: self.followers_only_s.unwrap_or(base.followers_only_s),
        }
    }
}

/// Which page of the listing.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListParams {
    /// Rooms whose name comes after this one.
    after: Option<String>,
    /// `name`: by name, the default; `busiest`: those with the most viewers, the busiest first, on
    /// one page alone.
    order: Option<Order>,
    /// Rooms on the page; 1 to `http.page_rooms_max`, default 100.
    limit: Option<usize>,
}

/// In which order rooms are listed.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = RoomOrder)]
pub(crate) enum Order {
    Name,
    Busiest,
}

/// Creates a room.
#[utoipa::path(post, path = "/v1/rooms", tag = "rooms", request_body = CreateRoom,
    responses(
        (status = 201, body = RoomView),
        (status = 400, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "there is such a room already"),
        (status = 503, body = ErrorBody, description = "the node holds as many rooms as it may"),
    ), security(("api_key" = [])))]
pub(crate) async fn create(
    State(shared): Context,
    actor: Actor,
    Body(body): Body<CreateRoom>,
) -> Result<(StatusCode, Json<RoomView>), ApiError> {
    let room = room_id(&body.room)?;
    check_decider(&shared, body.before_publish)?;
    let update = UpdateRoom {
        attributes: body.attributes,
        rate_per_s: body.rate_per_s,
        user_rate_per_s: body.user_rate_per_s,
        slow_mode_s: body.slow_mode_s,
        payload_bytes_max: body.payload_bytes_max,
        viewers_max: body.viewers_max,
        guests_publish: body.guests_publish,
        filter: body.filter,
        mute_all: body.mute_all,
        allowed: body.allowed,
        unique_s: body.unique_s,
        delay_ms: body.delay_ms,
        enter_events: body.enter_events,
        before_publish: body.before_publish,
        followers_only_s: body.followers_only_s,
    };
    let settings = update.over(shared.api.room_defaults.clone());
    settings.check(shared.api.payload_bytes_max).map_err(ApiError::bad_request)?;
    let settings = Box::new(settings);
    let engine = &shared.api.engine;
    let info =
        shared.call(|reply| engine.command(Command::Create { room, settings, reply })).await?;
    let entry = actor.entry("room.create", &info.room);
    shared.audit.write(vec![Entry { detail: told(&info.settings), ..entry }]).await;
    Ok((StatusCode::CREATED, Json(info.into())))
}

/// Lists rooms, by name or the busiest first.
#[utoipa::path(get, path = "/v1/rooms", tag = "rooms", params(ListParams),
    responses((status = 200, body = RoomPage), (status = 400, body = ErrorBody)),
    security(("api_key" = [])))]
pub(crate) async fn list(
    State(shared): Context,
    Params(params): Params<ListParams>,
) -> Result<Json<RoomPage>, ApiError> {
    let page_max = shared.api.config.page_rooms_max as usize;
    let limit = params.limit.unwrap_or(PAGE_ROOMS_DEFAULT.min(page_max));
    if limit == 0 || limit > page_max {
        return Err(ApiError::bad_request(format!("limit is {limit}; allowed is 1 to {page_max}")));
    }
    let which = match (params.order, params.after) {
        (Some(Order::Busiest), Some(_)) => {
            let text = "after goes with order=name; the busiest rooms are one page";
            return Err(ApiError::bad_request(text));
        }
        (Some(Order::Busiest), None) => Which::Busiest,
        (Some(Order::Name) | None, after) => Which::After(after.unwrap_or_default()),
    };
    let engine = &shared.api.engine;
    // One more than asked for tells whether there is a next page.
    let is_last = which == Which::Busiest;
    let mut found = shared.call(|reply| engine.list(which, limit + 1, reply)).await?;
    let more = found.len() > limit && !is_last;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|info| info.room.clone());
    Ok(Json(RoomPage { rooms: found.into_iter().map(RoomView::from).collect(), next }))
}

/// Tells what a room is now.
#[utoipa::path(get, path = "/v1/rooms/{room}", tag = "rooms",
    params(("room" = String, Path, description = "the room's name")),
    responses((status = 200, body = RoomView), (status = 404, body = ErrorBody)),
    security(("api_key" = [])))]
pub(crate) async fn get(
    State(shared): Context,
    Room(room): Room,
) -> Result<Json<RoomView>, ApiError> {
    let engine = &shared.api.engine;
    let info = shared.call(|reply| engine.command(Command::Get { room, reply })).await?;
    Ok(Json(info.into()))
}

/// Changes settings; members are told of attributes that changed.
#[utoipa::path(patch, path = "/v1/rooms/{room}", tag = "rooms", request_body = UpdateRoom,
    params(("room" = String, Path, description = "the room's name")),
    responses(
        (status = 200, body = RoomView),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ), security(("api_key" = [])))]
pub(crate) async fn update(
    State(shared): Context,
    actor: Actor,
    Room(room): Room,
    Body(body): Body<UpdateRoom>,
) -> Result<Json<RoomView>, ApiError> {
    check_decider(&shared, body.before_publish)?;
    let _one_at_a_time = shared.updates[lock_of(&room)].lock().await;
    let engine = &shared.api.engine;
    let now = {
        let room = room.clone();
        shared.call(|reply| engine.command(Command::Get { room, reply })).await?
    };
    let settings = body.over(now.settings);
    settings.check(shared.api.payload_bytes_max).map_err(ApiError::bad_request)?;
    let settings = Box::new(settings);
    let info =
        shared.call(|reply| engine.command(Command::Update { room, settings, reply })).await?;
    let entry = actor.entry("room.update", &info.room);
    shared.audit.write(vec![Entry { detail: told(&info.settings), ..entry }]).await;
    Ok(Json(info.into()))
}

/// A room that asks before it shows anything needs somebody to ask: `closed` would fall silent.
fn check_decider(shared: &Shared, asks: Option<BeforePublishView>) -> Result<(), ApiError> {
    let word = match asks {
        None | Some(BeforePublishView::Off) => return Ok(()),
        Some(BeforePublishView::Open) => "open",
        Some(BeforePublishView::Closed) => "closed",
    };
    if (shared.api.decides)() {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "before_publish is {word:?}, but no webhook has the event \"publish.before\", so nobody \
         would decide; add it to the events of an entry of webhooks (uproar.toml), where control \
         runs"
    )))
}

/// Which of the locks a change of a room's settings or attributes takes.
pub(super) fn lock_of(room: &RoomId) -> usize {
    let mut hasher = DefaultHasher::new();
    room.hash(&mut hasher);
    usize::try_from(hasher.finish() % UPDATE_LOCKS as u64).unwrap_or(0)
}

/// How many members are told.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct SampleParams {
    /// Users, 1 to 300; default 100.
    limit: Option<usize>,
}

/// Who is in a room.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Present)]
pub(crate) struct PresentView {
    /// Connections in the room, counted now.
    connections: u64,
    /// Different users, each as likely as any other, in no order. All of them, where there are no
    /// more than asked for.
    users: Vec<String>,
}

/// Tells who is in a room: a uniform sample of its users.
#[utoipa::path(get, path = "/v1/rooms/{room}/members", tag = "rooms",
    params(("room" = String, Path, description = "the room's name"), SampleParams),
    responses((status = 200, body = PresentView), (status = 404, body = ErrorBody)),
    security(("api_key" = [])))]
pub(crate) async fn members(
    State(shared): Context,
    Room(room): Room,
    Params(params): Params<SampleParams>,
) -> Result<Json<PresentView>, ApiError> {
    let limit = params.limit.unwrap_or(SAMPLE_USERS_DEFAULT);
    if limit == 0 || limit > SAMPLE_USERS_MAX {
        let text = format!("limit is {limit}; allowed is 1 to {SAMPLE_USERS_MAX}");
        return Err(ApiError::bad_request(text));
    }
    let engine = &shared.api.engine;
    let present =
        shared.call(|reply| engine.command(Command::Members { room, limit, reply })).await?;
    let Present { connections, users } = present;
    Ok(Json(PresentView { connections, users }))
}

/// Ends a room: its members are told that it is closed.
#[utoipa::path(delete, path = "/v1/rooms/{room}", tag = "rooms",
    params(("room" = String, Path, description = "the room's name")),
    responses((status = 204, description = "closed"), (status = 404, body = ErrorBody)),
    security(("api_key" = [])))]
pub(crate) async fn close(
    State(shared): Context,
    actor: Actor,
    Room(room): Room,
) -> Result<StatusCode, ApiError> {
    let engine = &shared.api.engine;
    let entry = actor.entry("room.close", room.as_str());
    shared.call(|reply| engine.command(Command::Close { room, reply })).await?;
    shared.audit.write(vec![entry]).await;
    Ok(StatusCode::NO_CONTENT)
}

/// What a room is set to, for the audit log.
fn told(settings: &RoomSettings) -> String {
    // Users' names would outlive their erasure here.
    let (allowed, settings) =
        (settings.allowed.len(), RoomSettings { allowed: BTreeSet::new(), ..settings.clone() });
    let text = serde_json::to_string(&settings).unwrap_or_default(); // it is always JSON
    format!("allowed={allowed} {text}")
}

impl From<RoomInfo> for RoomView {
    fn from(info: RoomInfo) -> RoomView {
        let RoomInfo { room, settings, epoch, seq, viewers, likes, attributes_version, shards } =
            info;
        let settings = settings.into();
        RoomView { room, settings, epoch, seq, viewers, likes, attributes_version, shards }
    }
}

impl From<RoomSettings> for SettingsView {
    fn from(settings: RoomSettings) -> SettingsView {
        // Taken apart by name: a field added to the settings fails to compile here.
        let RoomSettings {
            attributes,
            rate_per_s,
            user_rate_per_s,
            slow_mode_s,
            payload_bytes_max,
            viewers_max,
            guests_publish,
            filter,
            mute_all,
            allowed,
            unique_s,
            delay_ms,
            enter_events,
            before_publish,
            followers_only_s,
        } = settings;
        SettingsView {
            attributes,
            rate_per_s,
            user_rate_per_s,
            slow_mode_s,
            payload_bytes_max,
            viewers_max,
            guests_publish,
            filter,
            mute_all,
            allowed,
            unique_s,
            delay_ms,
            enter_events,
            before_publish: before_publish.into(),
            followers_only_s,
        }
    }
}
