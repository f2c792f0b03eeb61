//! Rows from one database to another, whatever they speak; and the file a backup is.
//!
//! Owns the list of tables, which is read from a database rather than written down: a table that is
//! added is copied. Owns what a backup says about itself, and the sums by which it is checked.

use super::place::Place;
use super::{Dialect, StoreError, migrate, schema};
use futures_core::Stream;
use sha2::{Digest as _, Sha256};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Row as _};
use std::collections::BTreeMap;
use std::pin::Pin;

/// What a backup's first bytes say it is ("upro"), as SQLite keeps it.
pub(super) const APPLICATION_ID: i64 = 0x7570_726f;
/// The shape of the file; another one is another number.
pub(super) const FORMAT: i64 = 1;
/// Rows of one transaction while copying.
const COMMIT_ROWS: u64 = 4_096;
/// Bytes of one transaction, about.
const COMMIT_BYTES: usize = 8 << 20;

/// A table that is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: String,
    columns: Vec<(String, Kind)>,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Bytes,
}

/// A value on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Number(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

impl Value {
    /// How long it is, about.
    fn bytes(&self) -> usize {
        match self {
            Value::Number(_) => 8,
            Value::Text(text) => text.as_ref().map_or(0, String::len),
            Value::Bytes(bytes) => bytes.as_ref().map_or(0, Vec::len),
        }
    }
}

/// A backup that is served as it is would give its sequence numbers a second time, under the same
/// generation: it becomes a store by a restore alone.
pub(super) async fn check_no_backup(place: &Place) -> Result<(), StoreError> {
    if !place.file.as_ref().is_some_and(|file| file.exists()) {
        return Ok(());
    }
    let mut conn = place.connect_bare().await?;
    let (id,) = sqlx::query_as::<_, (i64,)>("PRAGMA application_id").fetch_one(&mut conn).await?;
    conn.close().await?;
    if id == APPLICATION_ID {
        return Err(StoreError::Unusable(
            "it is a backup, which has to become a store of another generation first: uproar \
             restore does that"
                .into(),
        ));
    }
    Ok(())
}

/// How many rows a table has, and their sum, which does not depend on their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) rows: u64,
    hash: u64,
}

impl Sum {
    fn add(&mut self, row: &[Value]) {
        let mut digest = Sha256::new();
        let mut part = |tag: u8, bytes: Option<&[u8]>| {
            digest.update([tag, u8::from(bytes.is_some())]);
            let bytes = bytes.unwrap_or_default();
            digest.update((bytes.len() as u64).to_be_bytes());
            digest.update(bytes);
        };
        for value in row {
            match value {
                Value::Number(number) => {
                    part(0, number.map(i64::to_be_bytes).as_ref().map(|b| &b[..]))
                }
                Value::Text(text) => part(1, text.as_ref().map(|text| text.as_bytes())),
                Value::Bytes(bytes) => part(2, bytes.as_deref()),
            }
        }
        let mut first = [0; 8];
        first.copy_from_slice(&digest.finalize()[..8]);
        self.rows += 1;
        self.hash = self.hash.wrapping_add(u64::from_be_bytes(first));
    }
}

/// The tables of a SQLite database that are copied: all but those about itself.
pub(super) async fn tables(conn: &mut AnyConnection) -> Result<Vec<Table>, StoreError> {
    let names = sqlx::query_as::<_, (String,)>(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'migrations'
            AND name NOT LIKE 'sqlite%' AND name NOT LIKE 'backup%' ORDER BY name",
    );
    let mut tables = Vec::new();
    for (name,) in names.fetch_all(&mut *conn).await? {
        let columns = sqlx::query_as::<_, (String, String)>(
            "SELECT name, type FROM pragma_table_info(?) ORDER BY cid",
        );
        let mut of = Vec::new();
        for (column, kind) in columns.bind(name.as_str()).fetch_all(&mut *conn).await? {
            of.push((
                column,
                match kind.as_str() {
                    "BIGINT" => Kind::Number,
                    "TEXT" => Kind::Text,
                    "BLOB" => Kind::Bytes,
                    other => {
                        return Err(StoreError::Corrupt(format!("{name} has a column of {other}")));
                    }
                },
            ));
        }
        tables.push(Table { name, columns: of });
    }
    Ok(tables)
}

/// The tables of this program, whatever a database has.
pub(super) async fn known() -> Result<Vec<Table>, StoreError> {
    let memory = Place::of("sqlite::memory:", false).map_err(StoreError::Unusable)?;
    let mut conn = memory.connect_bare().await?;
    let names: Vec<String> = schema::all().map(|one| one.name.to_owned()).collect();
    migrate::apply_named(Dialect::Sqlite, &mut conn, &names).await?;
    let tables = tables(&mut conn).await?;
    conn.close().await?;
    Ok(tables)
}

impl Table {
    fn columns(&self) -> String {
        self.columns.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    }

    fn read(&self, row: &AnyRow) -> Result<Vec<Value>, StoreError> {
        let values = self.columns.iter().enumerate().map(|(at, (_, kind))| {
            Ok(match kind {
                Kind::Number => Value::Number(row.try_get(at)?),
                Kind::Text => Value::Text(row.try_get(at)?),
                Kind::Bytes => Value::Bytes(row.try_get(at)?),
            })
        });
        values.collect()
    }

    /// Writes rows with one statement.
    async fn write(&self, conn: &mut AnyConnection, rows: &[Vec<Value>]) -> Result<(), StoreError> {
        let marks = format!("({})", vec!["?"; self.columns.len()].join(", "));
        let insert = format!(
            "INSERT INTO `{}` ({}) VALUES {}",
            self.name,
            self.columns(),
            vec![marks; rows.len()].join(", ")
        );
        let mut query = sqlx::query(AssertSqlSafe(insert));
        for value in rows.iter().flatten() {
            query = match value {
                Value::Number(number) => query.bind(*number),
                Value::Text(text) => query.bind(text.as_deref()),
                Value::Bytes(bytes) => query.bind(bytes.as_deref()),
            };
        }
        query.execute(conn).await?;
        Ok(())
    }

    /// Reads the whole table, row by row.
    fn rows<'c>(&self, conn: &'c mut AnyConnection) -> Rows<'c> {
        let select = format!("SELECT {} FROM `{}`", self.columns(), self.name);
        Rows { stream: sqlx::query(AssertSqlSafe(select)).fetch(conn) }
    }
}

struct Rows<'c> {
    stream: Pin<Box<dyn Stream<Item = Result<AnyRow, sqlx::Error>> + Send + 'c>>,
}

impl Rows<'_> {
    async fn next(&mut self) -> Result<Option<AnyRow>, sqlx::Error> {
        std::future::poll_fn(|cx| self.stream.as_mut().poll_next(cx)).await.transpose()
    }
}

/// Copies a table; what it held.
pub(super) async fn copy(
    table: &Table,
    from: &mut AnyConnection,
    to: &mut AnyConnection,
) -> Result<Sum, StoreError> {
    let mut sum = Sum::default();
    let mut rows = table.rows(from);
    let mut more = true;
    while more {
        let mut tx = to.begin().await?;
        let (until, mut bytes) = (sum.rows + COMMIT_ROWS, 0);
        while more && sum.rows < until && bytes < COMMIT_BYTES {
            let mut batch = Batch::default();
            while more && batch.rows.len() < super::PART_MAX && batch.bytes < super::STATEMENT_BYTES
            {
                match rows.next().await? {
                    Some(row) => batch.add(table.read(&row)?, &mut sum),
                    None => more = false,
                }
            }
            for part in super::parts(&batch.rows) {
                table.write(&mut tx, part).await?;
            }
            bytes += batch.bytes;
        }
        tx.commit().await?;
    }
    Ok(sum)
}

/// Rows that are written together.
#[derive(Default)]
struct Batch {
    rows: Vec<Vec<Value>>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, row: Vec<Value>, sum: &mut Sum) {
        sum.add(&row);
        self.bytes += row.iter().map(Value::bytes).sum::<usize>();
        self.rows.push(row);
    }
}

/// What a table of a database holds.
pub(super) async fn sum(table: &Table, conn: &mut AnyConnection) -> Result<Sum, StoreError> {
    let mut sum = Sum::default();
    let mut rows = table.rows(conn);
    while let Some(row) = rows.next().await? {
        sum.add(&table.read(&row)?);
    }
    Ok(sum)
}

const TABLES: &str = "CREATE TABLE backup_tables (
    name TEXT NOT NULL PRIMARY KEY, row_count BIGINT NOT NULL, sum BIGINT NOT NULL) WITHOUT ROWID";

/// Signs a backup that is whole: what it is, and what its tables hold.
pub(super) async fn sign(
    conn: &mut AnyConnection,
    sums: &[(String, Sum)],
) -> Result<(), StoreError> {
    sqlx::query(TABLES).execute(&mut *conn).await?;
    for (name, sum) in sums {
        let insert =
            sqlx::query("INSERT INTO backup_tables (name, row_count, sum) VALUES (?, ?, ?)");
        let insert = insert.bind(name.as_str()).bind(sum.rows as i64).bind(sum.hash as i64);
        insert.execute(&mut *conn).await?;
    }
    let marks = [("application_id", APPLICATION_ID), ("user_version", FORMAT)];
    for (name, value) in marks {
        let pragma = format!("PRAGMA {name} = {value}");
        sqlx::query(AssertSqlSafe(pragma)).execute(&mut *conn).await?;
    }
    Ok(())
}

/// What its tables held when it was made.
pub(super) async fn signed(conn: &mut AnyConnection) -> Result<BTreeMap<String, Sum>, StoreError> {
    let rows = sqlx::query_as::<_, (String, i64, i64)>(
        "SELECT name, row_count, sum FROM backup_tables ORDER BY name",
    );
    let rows = rows.fetch_all(conn).await?.into_iter();
    Ok(rows.map(|(name, rows, sum)| (name, Sum { rows: rows as u64, hash: sum as u64 })).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_tells_rows_apart_and_not_their_order() {
        let text = |text: &str| Value::Text(Some(text.to_owned()));
        let sum = |rows: &[Vec<Value>]| {
            let mut sum = Sum::default();
            rows.iter().for_each(|row| sum.add(row));
            sum
        };
        let (one, two) = (vec![text("ab"), text("c")], vec![text("a"), text("bc")]);
        let alone = |row| sum(std::slice::from_ref(row));
        assert_ne!(alone(&one), alone(&two));
        assert_eq!(sum(&[one.clone(), two.clone()]), sum(&[two, one]));
        let none = Value::Text(None);
        assert_ne!(sum(&[vec![none]]), sum(&[vec![text("")]]), "no text is not an empty one");
        assert_ne!(sum(&[vec![Value::Number(Some(0))]]), sum(&[vec![Value::Number(None)]]));
    }
}
