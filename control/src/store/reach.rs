//! Whether a store can be reached, for whoever looks before serving: nothing is made or changed.
//!
//! Owns the look. Whether the store is good is told when it is opened.

use super::copy::check_no_backup;
use super::place::Place;
use sqlx::Connection as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest wait for a database server: whoever looks wants an answer, not the last word.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    /// A store, or a database for one, that answers.
    Answers,
    /// No file yet: the server will make it.
    NotYet,
}

/// The file of a SQLite store; `None`: a server keeps it.
///
/// # Errors
/// What is wrong with the URL.
pub fn file(url: &str) -> Result<Option<PathBuf>, String> {
    Ok(Place::of(url, true)?.file)
}

/// The folder of a store's file, which its log and locks share.
#[must_use]
pub fn folder(file: &Path) -> PathBuf {
    match file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => folder.to_path_buf(),
        None => PathBuf::from("."),
    }
}

/// Asks the store at `url` whether it answers, for five seconds at the longest.
///
/// # Errors
/// In words for the operator: what is wrong with the URL, the file or the server.
pub async fn reach(url: &str) -> Result<Reached, String> {
    let place = Place::of(url, true)?;
    match tokio::time::timeout(ANSWER_MAX, look(&place)).await {
        Ok(found) => found,
        Err(_) => Err(place.told(format!("no answer within {} s", ANSWER_MAX.as_secs()))),
    }
}

async fn look(place: &Place) -> Result<Reached, String> {
    place.check_files()?;
    let Some(file) = &place.file else { return answers(place).await };
    if !file.exists() {
        return Ok(Reached::NotYet);
    }
    check_no_backup(place).await.map_err(|e| place.told(e))?;
    // Only read: nothing is written into a store that a server may be using.
    answers(&Place::of_file(file, "mode=ro")?).await
}

async fn answers(place: &Place) -> Result<Reached, String> {
    let asked = async {
        let mut conn = place.connect_bare().await?;
        sqlx::query("SELECT 1").execute(&mut conn).await?;
        conn.close().await
    };
    asked.await.map(|()| Reached::Answers).map_err(|e| place.told(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_look_makes_nothing() {
        let name = format!("uproar-reach-{}", crate::ids::random_id());
        let folder_of = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder_of).unwrap();
        let at = folder_of.join("store.db");
        let url = format!("sqlite:{}", at.display());
        assert_eq!(file(&url).unwrap().as_deref(), Some(&*at));
        assert_eq!((folder(&at), folder(Path::new("a.db"))), (folder_of.clone(), ".".into()));
        assert_eq!(file("mysql://u:p@127.0.0.1:1/d").unwrap(), None);
        assert_eq!(reach(&url).await, Ok(Reached::NotYet));
        assert!(!at.exists());
        super::super::Store::open(&url, true).await.unwrap().close().await;
        assert_eq!(reach(&url).await, Ok(Reached::Answers));
        std::fs::write(&at, "not a database, however long it is").unwrap();
        let told = reach(&url).await.unwrap_err();
        assert!(told.contains("not a database"), "{told}");
        std::fs::remove_dir_all(&folder_of).unwrap();
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_told_without_its_password() {
        let told = reach("mysql://u:secret@127.0.0.1:1/d").await.unwrap_err();
        assert!(told.contains("mysql://u:***@127.0.0.1:1/d"), "{told}");
    }
}
