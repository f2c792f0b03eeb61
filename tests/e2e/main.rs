//! The server from outside: a real process, real sockets, somebody else's WebSocket client.
//!
//! Every case starts a server of its own on free ports and runs on both drivers, and on the wires
//! it concerns. Nothing here uses the server's codec. Owns the list of what runs on what; the
//! cases say what must hold.

mod client;
mod http;
mod json;
mod server;
mod tokens;

mod backend;
mod chat;
mod connecting;
mod crowds;
mod deflate;
mod durability;
mod ending;
mod limits;
mod moderation;
mod people;
mod publishing;
mod resuming;
mod rooms;
mod signing_in;
mod websocket;

use std::io::Write as _;
use std::sync::OnceLock;
use std::time::Duration;

/// The longest wait for anything: generous, since a machine may be busy. No test waits for it
/// unless it fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// The driver of the server's shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Io {
    Uring,
    Epoll,
}

impl Io {
    fn name(self) -> &'static str {
        match self {
            Io::Uring => "uring",
            Io::Epoll => "epoll",
        }
    }
}

/// The wire of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Tcp,
    WebSocket,
    Json,
}

/// What a case runs on.
#[derive(Clone, Copy, Debug)]
struct On {
    io: Io,
    wire: Wire,
}

/// Runs a case; says so where the machine forbids io_uring.
fn run(on: On, case: fn(On)) {
    if on.io != Io::Uring || !uring_is_forbidden() {
        case(on);
    }
}

/// Whether the machine forbids io_uring. A ring that is permitted and fails is a failure.
fn uring_is_forbidden() -> bool {
    static FORBIDDEN: OnceLock<bool> = OnceLock::new();
    *FORBIDDEN.get_or_init(|| {
        let Err(log) = server::Server::try_start(Io::Uring, "", &["--shards", "1"]) else {
            return false;
        };
        let reasons = ["is not permitted here", "has no io_uring", "is older than Linux"];
        let forbidden = reasons.iter().any(|reason| log.contains(reason));
        assert!(forbidden, "the ring failed for a reason that is not a ban: {log}");
        // Not by a macro of the test runner's, which keeps the output of tests that pass.
        let _ = writeln!(std::io::stderr(), "\nSKIPPED: every test on io_uring; {}", log.trim());
        true
    })
}

/// What the kernel is asked for, seen from outside: not a matter of driver or wire.
mod disk {
    #[test]
    fn an_acknowledged_message_is_on_the_disk() {
        crate::durability::an_acknowledged_message_is_on_the_disk();
    }

    #[test]
    fn without_sync_the_proof_fails() {
        crate::durability::without_sync_the_proof_fails();
    }
}

/// One test for each case on each of the named pairs of driver and wire.
macro_rules! suite {
    ($cases:tt on $($name:ident: $io:ident, $wire:ident;)+) => {
        $(suite!(@one $name $io $wire $cases);)+
    };
    (@one $name:ident $io:ident $wire:ident { $($file:ident: $($case:ident),+;)+ }) => {
        mod $name {
            $(mod $file {
                $(#[test] fn $case() {
                    let on = crate::On { io: crate::Io::$io, wire: crate::Wire::$wire };
                    crate::run(on, crate::$file::$case);
                })+
            })+
        }
    };
}

mod every_wire {
    suite! {
        {
            connecting: a_guest_is_welcomed_and_its_pings_are_answered,
                bytes_may_arrive_one_by_one,
                everything_may_travel_in_one_packet,
                unknown_frames_and_fields_are_ignored,
                the_first_frame_is_connect_and_there_is_one,
                without_a_connect_the_handshake_ends,
                silence_ends_a_session_and_pings_keep_it,
                a_malformed_frame_closes_that_connection_alone,
                a_frame_beyond_the_bound_is_refused,
                a_flood_of_frames_is_ended;
            signing_in: a_token_names_its_user,
                an_expired_token_is_refused,
                a_token_that_expires_ends_its_session,
                tokens_of_others_are_refused,
                guests_need_permission_where_keys_are_set,
                a_token_opens_its_rooms_and_classes_alone;
            rooms: a_join_gets_the_snapshot,
                who_leaves_hears_nothing_more,
                wrong_joins_are_errors_about_the_room,
                a_full_room_takes_nobody_on_any_shard,
                an_empty_room_ends_and_begins_anew,
                old_messages_leave_the_history,
                several_rooms_do_not_mix,
                viewers_are_counted;
            publishing: a_message_reaches_every_wire_with_one_seq,
                bytes_stay_bytes,
                what_cannot_be_published_is_refused_and_told_why,
                a_busy_user_is_told_to_slow_down,
                a_busy_room_sheds_and_the_books_balance,
                likes_are_added_up_exactly;
            moderation: slow_mode_holds_for_a_user_on_all_connections,
                a_muted_user_watches_and_does_not_speak,
                a_kicked_user_may_come_back_and_a_banned_one_not,
                a_ban_holds_where_the_room_was_not_yet_open,
                a_closed_room_tells_its_viewers;
            resuming: a_cursor_brings_what_was_missed_and_nothing_twice,
                a_cursor_older_than_history_brings_a_gap,
                a_restart_is_another_epoch;
            crowds: everyone_gets_everything_in_order,
                a_slow_viewer_gets_a_gap_and_delays_nobody,
                who_does_not_read_its_replies_is_closed;
            chat: friends_write_to_each_other_online_and_offline,
                a_retry_gets_the_same_answer_and_is_pushed_to_nobody_twice,
                who_may_not_write_is_told_why_and_nothing_is_stored,
                cursors_move_forward_and_are_shown,
                an_inbox_needs_a_token_and_a_store,
                a_token_is_renewed_in_place;
            people: strangers_become_friends_and_write,
                a_log_out_closes_its_connections_and_no_others;
            ending: a_drain_tells_clients_to_reconnect,
                who_ignores_a_drain_is_told_why_it_ends;
        } on
        uring_tcp: Uring, Tcp;
        uring_websocket: Uring, WebSocket;
        uring_json: Uring, Json;
        epoll_tcp: Epoll, Tcp;
        epoll_websocket: Epoll, WebSocket;
        epoll_json: Epoll, Json;
    }
}

mod every_websocket {
    suite! {
        {
            websocket: a_message_may_come_in_fragments_with_a_ping_between,
                a_close_is_answered_with_its_code,
                text_that_is_not_utf8_is_refused,
                what_breaks_the_rules_of_frames_is_refused,
                all_fragments_together_have_one_bound,
                the_other_kind_of_message_is_refused;
            deflate: messages_are_compressed_both_ways,
                each_message_stands_alone,
                a_bomb_and_garbage_are_refused;
        } on
        uring_websocket: Uring, WebSocket;
        uring_json: Uring, Json;
        epoll_websocket: Epoll, WebSocket;
        epoll_json: Epoll, Json;
    }
}

// The wire of these cases is their own.
mod every_driver {
    suite! {
        {
            websocket: the_first_known_subprotocol_is_agreed,
                requests_that_are_no_upgrade_are_answered_in_http,
                pages_of_other_origins_are_refused;
            deflate: offers_that_cost_a_window_are_declined;
            limits: first_bytes_of_nothing_known_are_refused,
                a_request_that_is_never_ended_is_answered_in_http,
                an_address_holds_so_many_connections,
                an_address_makes_so_many_handshakes_a_second,
                a_proxy_speaks_for_its_clients,
                a_bad_proxy_header_is_refused,
                a_full_server_takes_nobody_until_somebody_goes,
                a_node_holds_so_many_rooms;
            backend: rooms_are_created_read_changed_listed_and_closed,
                a_backend_publishes_one_and_many,
                the_api_key_is_asked_for,
                tokens_from_the_backend_open_the_door,
                health_and_openapi_are_open,
                metrics_count_what_happened;
            ending: the_last_client_that_goes_ends_a_drain,
                a_drain_refuses_who_comes,
                a_second_process_on_the_port_is_an_error;
            chat: what_was_acknowledged_outlives_a_kill;
        } on
        uring: Uring, Tcp;
        epoll: Epoll, Tcp;
    }
}
