//! The plans of the statements on the hot paths, as the databases themselves tell them.
//!
//! The statements are those the code sends: it is run once, and what it sent is read back (from
//! sqlx's own log on SQLite, from the server's log with its values on MySQL). So a statement that
//! is added to a path is looked at without being written down here again.

use super::append::{Append, Target, append};
use super::receipts::{Advance, Side, advance};
use super::testing::{TestStore, runtime};
use super::{
    Dialect, conversations, following, groups, migrate, parts, receipts, relations, users,
};
use crate::groups::{Joining, Role};
use crate::relations::Policy;
use serde_json::Value;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Row as _};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Mutex;
use tracing::field::{Field, Visit};
use tracing::span;
use uproar_proto::v1::Kind;

/// The beginning of a day.
const NOW: i64 = 1_800_000_000_000;
/// A group among many.
const GROUP: i64 = 7_777;
/// Its members, and users in all: enough that a look at all of them is no plan.
const MANY: i64 = 3_000;
const ALICE: i64 = 10;
const BOB: i64 = 11;

/// Rows enough that reading all of a table is never the best plan.
async fn fill(conn: &mut AnyConnection) {
    let all: Vec<i64> = (0..MANY).collect();
    for part in parts(&all) {
        let rows = |row: &str| vec![row.to_owned(); part.len()].join(", ");
        let statements = [
            ("users (id, issuer, name, created_ms, erased)", "(?, '', CONCAT('u', ?), 1, 0)", 2),
            (
                "relations (user_id, peer_id, state, changed_ms)",
                "(?, 1 + ?, 17, 1), (1 + ?, ?, 1, 1)",
                4,
            ),
            ("room_roles (room, user_id, role, changed_ms)", "(CONCAT('r', ?), 1 + ?, 2, 1)", 2),
            (
                "user_settings (user_id, private_read, hide_last_seen, changed_ms)",
                "(?, 0, 0, 1)",
                1,
            ),
            (
                "conversations (conv, kind, user_a, user_b, head, counted, floor, changed_ms)",
                "(20000 + ?, 1, ?, 1 + ?, 3, 3, 0, 1)",
                3,
            ),
            (
                "memberships (conv, user, since, until, role, muted_until_ms, read_seq,
                    delivered_seq, changed_ms)",
                "(20000 + ?, ?, 0, 0, 0, 0, 1, 1, 1), (20000 + ?, 1 + ?, 0, 0, 0, 0, 1, 1, 1),
                    (7777, 2000 + ?, 0, 0, 0, 0, 1, 0, 1)",
                5,
            ),
            (
                "message_index (conv, seq, sender, id_high, id_low, hash, time_ms, n, kind,
                    target)",
                "(20000 + ?, 1, ?, 1, 1, 1, 1, 1, 0, 0), (20000 + ?, 2, ?, 1, 2, 1, 1, 2, 0, 0),
                    (20000 + ?, 3, ?, 1, 3, 1, 1, 3, 0, 0)",
                6,
            ),
            (
                "message_content (conv, seq, time_ms, edited, body)",
                "(20000 + ?, 1, 1, 0, 'x'), (20000 + ?, 2, 1, 0, 'x'), (20000 + ?, 3, 1, 0, 'x')",
                3,
            ),
            (
                "group_info (conv, name, announcement, joining, muted_all, size, ended,
                    created_ms)",
                "(40000 + ?, 'a group', '', 0, 0, 0, 0, 1)",
                1,
            ),
        ];
        for (into, row, values) in statements {
            let insert = format!("INSERT INTO {into} VALUES {}", rows(row));
            let mut query = sqlx::query(AssertSqlSafe(insert));
            for number in part {
                for _ in 0..values {
                    query = query.bind(*number);
                }
            }
            query.execute(&mut *conn).await.unwrap();
        }
    }
    make_group(conn).await;
}

/// The group that many are in.
async fn make_group(conn: &mut AnyConnection) {
    let group = crate::groups::Group {
        conv: GROUP,
        name: "many".into(),
        announcement: String::new(),
        joining: Joining::Invite,
        muted_all: false,
        size: MANY,
        ended: false,
        created_ms: 1,
        owner: ALICE,
        head: 0,
    };
    groups::insert(conn, &group).await.unwrap();
    groups::insert_members(conn, GROUP, &[(ALICE, Role::Owner)], 0, 1).await.unwrap();
}

fn send(target: Target, id: u128, kind: Kind, target_seq: i64) -> Append {
    Append {
        sender: ALICE,
        target,
        client_msg_id: id,
        hash: 1,
        kind,
        target_seq,
        body: b"text".to_vec(),
        by_operator: false,
    }
}

/// A start, and every path that a connected client takes, through one conversation at a time.
async fn visit(conn: &mut AnyConnection, dialect: Dialect) {
    // Not a client's path: each start's, however much there is.
    migrate::newest_ms(dialect, conn).await.unwrap();
    let friends = Target::Direct(BOB);
    let conv = conversations::pair_id((ALICE, BOB), 0);
    users::find(conn, "", "u10").await.unwrap().unwrap();
    users::find_all(conn, &["u10".into(), "u11".into()]).await.unwrap();
    users::by_id(conn, ALICE).await.unwrap().unwrap();
    users::name(conn, ALICE).await.unwrap().unwrap();
    conversations::direct(conn, ALICE, BOB).await.unwrap();
    relations::pair(conn, dialect, ALICE, BOB).await.unwrap();
    let followed = following::rooms_of(conn, dialect, ALICE, 256).await.unwrap();
    assert_eq!(followed.len(), 2, "its own, and that of whom it follows");
    // A send opens the conversation; then a send, a retry, events.
    for items in [
        vec![send(friends, 1, Kind::Message, 0)],
        vec![send(friends, 2, Kind::Message, 0), send(friends, 1, Kind::Message, 0)],
        vec![send(friends, 3, Kind::Edit, 1)],
        vec![send(friends, 4, Kind::Recall, 2)],
        vec![send(Target::Group(GROUP), 1, Kind::Message, 0)],
        vec![send(Target::Group(GROUP), 2, Kind::Message, 0)],
    ] {
        for place in append(conn, dialect, Policy::Anyone, &items, NOW).await.unwrap() {
            place.unwrap();
        }
    }
    let mut tx = conn.begin().await.unwrap();
    let mark = |conv, user, read| Advance { conv, user, read, delivered: read };
    for marks in [[mark(conv, BOB, 2)], [mark(GROUP, 2_001, 2)]] {
        advance(&mut tx, dialect, &marks, NOW).await.unwrap()[0].unwrap().unwrap();
    }
    groups::locked(&mut tx, dialect, GROUP).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    conversations::changed(conn, BOB, NOW, 0, 200).await.unwrap();
    conversations::groups(conn, ALICE).await.unwrap();
    conversations::members(conn, &[(GROUP, ALICE)]).await.unwrap();
    for conv in [conv, GROUP] {
        conversations::readable(conn, conv, ALICE).await.unwrap();
        assert!(!conversations::read(conn, conv, (1, 100), 100).await.unwrap().is_empty());
    }
    receipts::messages(conn, GROUP, (0, 9), 100).await.unwrap();
    receipts::sender(conn, GROUP, 1).await.unwrap();
    receipts::sent_by(conn, (GROUP, ALICE), 0, 100).await.unwrap();
    receipts::counts(conn, GROUP, &[(1, ALICE), (2, ALICE)]).await.unwrap();
    for side in [Side::Read, Side::Unread] {
        receipts::count(conn, (GROUP, 1, ALICE), side).await.unwrap();
        receipts::list(conn, (GROUP, 1, ALICE), side, 0, 50).await.unwrap();
    }
    groups::list_members(conn, GROUP, 0, 50).await.unwrap();
    groups::list_of(conn, ALICE, 0, 50).await.unwrap();
    groups::members(conn, GROUP, &[ALICE]).await.unwrap();
    groups::counts_of(conn, &[ALICE]).await.unwrap();
}

/// What sqlx told at TRACE, by any connection that was made to.
static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Listener;

impl tracing::Subscriber for Listener {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query" && *metadata.level() == tracing::Level::TRACE
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut statement = Statement::default();
        event.record(&mut statement);
        // A short statement stands in the summary alone.
        let Statement { long, short } = statement;
        TOLD.lock().unwrap().push(if long.trim().is_empty() { short } else { long });
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Statement {
    long: String,
    short: String,
}

impl Visit for Statement {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "db.statement" => value.clone_into(&mut self.long),
            "summary" => value.clone_into(&mut self.short),
            _ => {}
        }
    }
    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

fn is_looked_at(statement: &&String) -> bool {
    let first = statement.split_whitespace().next().unwrap_or_default();
    ["SELECT", "UPDATE", "DELETE", "INSERT"].contains(&first)
}

/// Whether a step of SQLite's reads a table from end to end. It calls that a search too where the
/// largest value of a column is asked for, of a key it does not help with; by what it really
/// searches, it tells in brackets.
fn is_whole(step: &str) -> bool {
    step.starts_with("SCAN") || (step.starts_with("SEARCH") && !step.contains('('))
}

/// So that the look cannot become one at nothing.
const STATEMENTS_MIN: usize = 40;

#[test]
fn no_hot_statement_reads_a_whole_table_of_sqlite() {
    let listening = tracing::subscriber::set_global_default(Listener);
    listening.expect("no other test listens");
    runtime().block_on(async {
        let store = TestStore::sqlite().await;
        let mut conn = store.place.connect_told().await.unwrap();
        fill(&mut conn).await;
        let filled = TOLD.lock().unwrap().len();
        visit(&mut conn, Dialect::Sqlite).await;
        let statements: BTreeSet<String> =
            TOLD.lock().unwrap()[filled..].iter().filter(is_looked_at).cloned().collect();
        assert!(statements.len() >= STATEMENTS_MIN, "{}: {statements:#?}", statements.len());
        let mut bad = Vec::new();
        for statement in &statements {
            let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
            let plan = sqlx::query_as::<_, (i64, i64, i64, String)>(explain);
            for (.., step) in plan.fetch_all(&mut conn).await.unwrap() {
                // What a statement has built itself may be read from end to end.
                let built = ["SCAN CONSTANT ROW", "SCAN s", "SCAN (subquery"];
                if is_whole(&step) && !built.iter().any(|ok| step.starts_with(ok)) {
                    bad.push(format!("{step}: {statement}"));
                }
            }
        }
        assert!(bad.is_empty(), "{bad:#?}");
        let scan = "EXPLAIN QUERY PLAN SELECT conv FROM message_index WHERE sender = 1";
        let plan = sqlx::query_as::<_, (i64, i64, i64, String)>(scan);
        let plan = plan.fetch_one(&mut conn).await.unwrap();
        assert!(plan.3.starts_with("SCAN message_index"), "the look finds what it looks for");
        let newest = "EXPLAIN QUERY PLAN SELECT MAX(changed_ms) FROM conversations";
        let plan = sqlx::query_as::<_, (i64, i64, i64, String)>(newest);
        assert!(is_whole(&plan.fetch_one(&mut conn).await.unwrap().3));
        conn.close().await.unwrap();
        store.end().await;
    });
}

/// Every table in a server's plan.
fn tables<'a>(plan: &'a Value, found: &mut Vec<&'a Value>) {
    match plan {
        Value::Object(members) => {
            if members.contains_key("table_name") {
                found.push(plan);
            }
            members.values().for_each(|member| tables(member, found));
        }
        Value::Array(list) => list.iter().for_each(|one| tables(one, found)),
        _ => {}
    }
}

/// What is wrong with the plan of one table, where something is.
fn wrong(table: &Value) -> Option<String> {
    let name = table["table_name"].as_str().unwrap_or_default();
    let access = table["access_type"].as_str().unwrap_or_default();
    // `<derived2>`: what the statement has built itself.
    if matches!(access, "ALL" | "index") && !name.starts_with('<') {
        return Some(format!("{name} is read from end to end"));
    }
    let partitions = table["partitions"].as_array().map_or(0, Vec::len);
    // Of a join, the partition is found for each row: by the whole of what partitions it.
    let by_row = matches!(access, "eq_ref" | "ref")
        && table["ref"].as_array().is_some_and(|by| {
            by.first().and_then(Value::as_str).is_some_and(|by| by.ends_with(".m.conv"))
        });
    (partitions > 1 && !by_row).then(|| format!("{name} is looked for in {partitions} partitions"))
}

async fn plan(conn: &mut AnyConnection, statement: &str) -> Value {
    let explain = AssertSqlSafe(format!("EXPLAIN FORMAT=JSON {statement}"));
    let row = sqlx::raw_sql(explain).fetch_one(conn).await;
    let text: String = row.unwrap_or_else(|e| panic!("{statement}: {e}")).get(0);
    serde_json::from_str(&text).unwrap()
}

/// The statements of a connection with their values, as the server's own log has them.
async fn logged(store: &TestStore, visitor: &mut AnyConnection) -> BTreeSet<String> {
    let mut server = store.place.connect().await.unwrap();
    let id = sqlx::query_as::<_, (i64,)>("SELECT CAST(CONNECTION_ID() AS SIGNED)");
    let (id,) = id.fetch_one(&mut *visitor).await.unwrap();
    for setting in ["SET GLOBAL log_output = 'TABLE'", "SET GLOBAL general_log = 1"] {
        sqlx::query(setting).execute(&mut server).await.expect("a server of the test's own");
    }
    visit(visitor, Dialect::Mysql).await;
    sqlx::query("SET GLOBAL general_log = 0").execute(&mut server).await.unwrap();
    let rows = sqlx::query_as::<_, (String,)>(
        "SELECT CAST(argument AS CHAR CHARACTER SET utf8mb4) FROM mysql.general_log
            WHERE thread_id = ? AND command_type = 'Execute'",
    );
    let rows = rows.bind(id).fetch_all(&mut server).await.unwrap();
    server.close().await.unwrap();
    rows.into_iter().map(|(text,)| text).filter(|text| is_looked_at(&text)).collect()
}

#[test]
fn each_hot_statement_of_a_server_looks_into_one_partition() {
    runtime().block_on(async {
        let Some(store) = TestStore::mysql().await else { return };
        let mut conn = store.place.connect().await.unwrap();
        let times = (NOW, NOW);
        let day = super::upkeep::DAY_MS;
        super::partitions::make_ahead(&mut conn, day, times, false).await.unwrap();
        fill(&mut conn).await;
        for table in super::copy::known().await.unwrap() {
            let analyze = AssertSqlSafe(format!("ANALYZE TABLE {}", table.name));
            sqlx::raw_sql(analyze).fetch_all(&mut conn).await.unwrap();
        }
        let statements = logged(&store, &mut conn).await;
        assert!(statements.len() >= STATEMENTS_MIN, "{}: {statements:#?}", statements.len());
        let mut bad = Vec::new();
        for statement in &statements {
            let plan = plan(&mut conn, statement).await;
            let mut found = Vec::new();
            tables(&plan, &mut found);
            let wrong = found.into_iter().filter_map(wrong);
            bad.extend(wrong.map(|wrong| format!("{wrong}: {statement}\n{plan:#}")));
        }
        assert!(bad.is_empty(), "{}", bad.join("\n"));
        // The look finds what it looks for.
        for (statement, why) in [
            ("SELECT seq FROM message_index WHERE sender = 1", "is read from end to end"),
            ("SELECT body FROM message_content WHERE conv = 1 AND seq = 1", "partitions"),
        ] {
            let plan = plan(&mut conn, statement).await;
            let mut found = Vec::new();
            tables(&plan, &mut found);
            let wrong = wrong(found[0]).unwrap();
            assert!(wrong.contains(why), "{wrong}");
        }
        looks_of_a_sync(&mut conn).await;
        conn.close().await.unwrap();
        store.end().await;
    });
}

/// A join names all partitions in its plan and looks into one for each row: the server's own count
/// of look-ups tells.
async fn looks_of_a_sync(conn: &mut AnyConnection) {
    let looks = async |conn: &mut AnyConnection| {
        let status = sqlx::raw_sql("SHOW SESSION STATUS LIKE 'Handler_read_key'");
        let text: String = status.fetch_one(conn).await.unwrap().get(1);
        text.parse::<i64>().unwrap()
    };
    // A user with two one-to-one conversations and a group.
    let user = 2_500;
    let before = looks(conn).await;
    let views = conversations::changed(conn, user, 0, 0, 200).await.unwrap();
    let after = looks(conn).await;
    assert_eq!(views.len(), 3);
    // One finds the user's memberships. Then of each of two one-to-one conversations: itself, its
    // group (it has none), the other user and that one's membership and settings, what the two are
    // to each other both ways, which are joins and one look each; a newer membership of one's own
    // and two places in the index, which are subqueries, and MariaDB counts two looks for each (by
    // the statement taken apart, join by join). Of the group the same without another user. To look
    // into all partitions once would be 15 more.
    const DIRECT: i64 = 7 + 3 * 2;
    const OF_GROUP: i64 = 2 + 3 * 2;
    let looks = after - before;
    assert!(looks <= 1 + 2 * DIRECT + OF_GROUP, "{looks} look-ups");
}
