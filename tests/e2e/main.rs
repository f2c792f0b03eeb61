//! The server from outside: a real process, real sockets, somebody else's WebSocket client.
//!
//! Every case starts a server of its own on free ports and runs on both drivers, on the wires and
//! on the stores it concerns. Nothing here uses the server's codec. Owns the list of what runs on
//! what; the cases say what must hold.

mod client;
mod device;
mod groups;
mod http;
mod json;
mod maria;
mod receiver;
mod server;
mod stores;
mod tokens;

mod away;
mod backend;
mod blocking;
mod chat;
mod connecting;
mod crash;
mod crowds;
// Not a matter of driver or wire: they and `hooks` hold their tests themselves, as `judging` does
// one of its.
mod deciding;
mod deflate;
mod durability;
mod ending;
mod filtering;
mod following;
mod hooks;
mod judging;
mod keeping;
mod limits;
mod live;
mod malformed;
mod moderation;
mod operator;
mod people;
mod presence;
mod publishing;
mod reacting;
mod replaying;
mod reporting;
mod restoring;
mod resuming;
mod rooms;
mod signing_in;
mod split;
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

/// What the server keeps its conversations in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    Sqlite,
    MariaDb,
    /// A control process of its own, with SQLite.
    Split,
}

/// What a case runs on.
#[derive(Clone, Copy, Debug)]
struct On {
    io: Io,
    wire: Wire,
    store: Store,
}

/// Runs a case; says so where the machine forbids io_uring, or has no MariaDB.
fn run(on: On, case: fn(On)) {
    let has_store = on.store != Store::MariaDb || stores::mariadb().is_some();
    if has_store && (on.io != Io::Uring || !uring_is_forbidden()) {
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

/// A store and its backup: a matter of the database, not of driver or wire.
mod backups {
    #[test]
    fn a_restored_sqlite_store_is_another_life() {
        crate::restoring::a_restored_store_is_another_life(crate::restoring::Database::sqlite());
    }

    #[test]
    fn a_restored_mysql_store_is_another_life() {
        // scripts/test names a server, or says that there is none.
        if let Some(database) = crate::restoring::Database::mysql() {
            crate::restoring::a_restored_store_is_another_life(database);
        }
    }
}

/// A figure that is told: not a matter of driver or wire.
mod figures {
    #[test]
    fn every_report_of_many_connections_is_counted_and_their_pace_is_told() {
        crate::reporting::every_report_of_many_connections_is_counted_and_their_pace_is_told();
    }
}

/// Stores that are away: not a matter of driver or wire.
mod stores_away {
    #[test]
    fn a_commit_that_was_not_answered_is_looked_up() {
        crate::away::a_commit_that_was_not_answered_is_looked_up();
    }

    #[test]
    fn a_commit_that_is_never_answered_keeps_nobody_waiting() {
        crate::away::a_commit_that_is_never_answered_keeps_nobody_waiting();
    }

    #[test]
    fn a_change_whose_commit_was_not_answered_is_looked_up() {
        crate::away::a_change_whose_commit_was_not_answered_is_looked_up();
    }

    #[test]
    fn a_mariadb_that_hangs_delays_nobody_for_long() {
        crate::away::a_mariadb_that_hangs_delays_nobody_for_long();
    }

    #[test]
    fn a_full_disk_takes_nothing_and_loses_nothing() {
        crate::away::a_full_disk_takes_nothing_and_loses_nothing();
    }

    #[test]
    fn a_store_that_cannot_be_is_told_at_the_start() {
        crate::away::a_store_that_cannot_be_is_told_at_the_start();
    }
}

/// Processes that are killed under load: not a matter of driver or wire.
mod crashes {
    #[test]
    fn the_server_is_killed_and_nothing_acknowledged_is_lost() {
        crate::crash::the_server_is_killed_and_nothing_acknowledged_is_lost();
    }

    #[test]
    fn mariadb_is_killed_and_nothing_acknowledged_is_lost() {
        crate::crash::mariadb_is_killed_and_nothing_acknowledged_is_lost();
    }

    #[test]
    fn both_are_killed_and_nothing_acknowledged_is_lost() {
        crate::crash::both_are_killed_and_nothing_acknowledged_is_lost();
    }

    #[test]
    fn what_a_disk_forgot_is_found() {
        crate::crash::what_a_disk_forgot_is_found();
    }
}

/// One test for each case on each of the named sets of driver, wire and store (SQLite where none is
/// named).
macro_rules! suite {
    ($cases:tt on $($name:ident: $io:ident, $wire:ident $(, $store:ident)?;)+) => {
        $(suite!(@one $name $io $wire [$($store)? Sqlite] $cases);)+
    };
    (@one $name:ident $io:ident $wire:ident [$store:ident $($default:ident)?]
        { $($file:ident: $($case:ident),+;)+ }) => {
        mod $name {
            $(mod $file {
                $(#[test] fn $case() {
                    let (io, wire) = (crate::Io::$io, crate::Wire::$wire);
                    let on = crate::On { io, wire, store: crate::Store::$store };
                    crate::run(on, crate::$file::$case);
                })+
            })+
        }
    };
}

// The whole behaviour of conversations, by an engine and its control in two processes. (Without a
// store there is no control process, so the case about that is not among them.)
mod two_processes {
    #[test]
    fn an_engine_that_starts_without_control_holds_what_it_was_told() {
        crate::split::an_engine_that_starts_without_control_holds_what_it_was_told();
    }

    suite! {
        {
            chat: friends_write_to_each_other_online_and_offline,
                a_retry_gets_the_same_answer_and_is_pushed_to_nobody_twice,
                who_may_not_write_is_told_why_and_nothing_is_stored,
                cursors_move_forward_and_are_shown,
                a_token_is_renewed_in_place;
            groups: a_member_hears_and_reads_from_its_joining_to_its_leaving,
                the_muted_are_told_and_a_group_that_ended_is_none,
                a_sender_learns_how_many_have_read_and_who;
            people: strangers_become_friends_and_write,
                a_log_out_closes_its_connections_and_no_others,
                the_token_of_a_login_that_has_ended_opens_no_inbox;
            presence: friends_are_seen_to_come_and_go,
                who_is_a_friend_no_more_is_not_seen,
                a_watch_has_a_bound_and_needs_an_inbox;
            reporting: a_report_counts_once_whatever_door_it_comes_by,
                a_report_that_is_not_taken_is_told_why_and_closes_nothing;
        } on
        epoll_websocket: Epoll, WebSocket, Split;
    }
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
            filtering: a_hit_is_refused_and_seen_by_nobody;
            judging: what_the_platform_says_is_what_a_room_sees;
            following: only_who_follows_for_long_enough_may_chat,
                who_begins_to_follow_renews_its_token_in_place,
                an_account_follows_a_room_through_its_owner;
            blocking: a_ban_takes_devices_and_addresses_along_until_it_is_ended,
                whoever_is_blocked_is_closed_at_once_and_comes_no_more;
            reporting: a_report_counts_once_whatever_door_it_comes_by,
                a_report_that_is_not_taken_is_told_why_and_closes_nothing;
            live: what_is_recalled_leaves_every_screen,
                a_muted_room_hears_its_list_alone_and_no_text_twice,
                a_rooms_state_is_told_as_it_changes,
                a_poll_counts_each_user_once,
                gifts_of_a_name_are_one_line_that_counts_up,
                with_a_delay_moderators_see_first,
                a_room_tells_who_is_in_it,
                who_comes_in_is_told_and_an_announcement_reaches_everybody_once;
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
                a_token_is_renewed_in_place,
                nothing_is_stored_under_a_token_that_is_over;
            malformed: what_is_no_frame_ends_the_connection_and_stores_nothing;
            reacting: a_reaction_reaches_everybody_and_who_was_away,
                who_may_not_react_is_told_why,
                a_pin_stands_in_the_sync,
                a_store_is_named_everywhere;
            groups: a_member_hears_and_reads_from_its_joining_to_its_leaving,
                the_muted_are_told_and_a_group_that_ended_is_none,
                a_sender_learns_how_many_have_read_and_who;
            people: strangers_become_friends_and_write,
                relationships_are_told_as_they_change,
                what_is_read_in_private_stays_with_its_reader,
                a_log_out_closes_its_connections_and_no_others,
                the_token_of_a_login_that_has_ended_opens_no_inbox;
            presence: friends_are_seen_to_come_and_go,
                who_is_a_friend_no_more_is_not_seen,
                a_watch_has_a_bound_and_needs_an_inbox;
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

mod every_store {
    suite! {
        {
            chat: friends_write_to_each_other_online_and_offline,
                a_retry_gets_the_same_answer_and_is_pushed_to_nobody_twice,
                who_may_not_write_is_told_why_and_nothing_is_stored,
                cursors_move_forward_and_are_shown;
            groups: a_member_hears_and_reads_from_its_joining_to_its_leaving,
                the_muted_are_told_and_a_group_that_ended_is_none,
                a_sender_learns_how_many_have_read_and_who;
            people: strangers_become_friends_and_write,
                a_log_out_closes_its_connections_and_no_others;
            presence: friends_are_seen_to_come_and_go,
                who_is_a_friend_no_more_is_not_seen,
                a_watch_has_a_bound_and_needs_an_inbox;
        } on
        mariadb: Epoll, Json, MariaDb;
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
            filtering: a_list_is_swapped_while_people_write;
            judging: a_receiver_that_hangs_or_is_gone_ends_as_the_room_has_declared,
                where_control_is_gone_a_room_does_as_it_has_declared;
            blocking: the_address_a_proxy_tells_is_the_one_that_counts;
            keeping: they_outlive_the_room_and_a_kill,
                they_outlive_an_engine_and_what_it_decides_without_control;
            ending: the_last_client_that_goes_ends_a_drain,
                a_drain_refuses_who_comes,
                a_second_process_on_the_port_is_an_error;
            chat: what_was_acknowledged_outlives_a_kill,
                who_reads_no_pushes_delays_nobody;
            split: control_is_killed_under_load_and_nothing_acknowledged_is_lost,
                an_engine_is_killed_and_comes_back,
                two_engines_share_one_control,
                who_was_removed_unheard_hears_nothing_more,
                who_was_logged_out_unheard_is_closed,
                another_key_or_version_is_refused,
                each_process_tells_where_the_rest_is,
                both_processes_end_when_told_to;
            operator: a_banned_user_is_closed_at_once_and_stays_out,
                an_erased_user_is_gone_for_whoever_is_online_and_whoever_comes_later,
                an_erasure_that_was_cut_off_is_finished_after_a_restart,
                the_terminal_does_what_http_does;
        } on
        uring: Uring, Tcp;
        epoll: Epoll, Tcp;
    }
}
