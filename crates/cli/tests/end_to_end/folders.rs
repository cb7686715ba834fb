//! Data folders: one server each, and never one that a newer version wrote.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::server::Server;
use crate::world::{Repository, edgewright};

#[tokio::test]
async fn a_data_folder_has_one_server() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::plants(folder.path().join("plants"), &["a"]).await;
    let data = folder.path().join("data");
    let server = Server::start(&data, &["--source", repository.url()]).await;
    let lock = std::fs::read_to_string(data.join("lock")).unwrap();
    let pid = serde_json::from_str::<serde_json::Value>(&lock).unwrap()["pid"].to_string();
    for arguments in [&["serve", "--listen", "127.0.0.1:0"][..], &["run", repository.url()]] {
        let ended = edgewright(folder.path(), arguments).await.ends(4);
        assert!(ended.errors.contains(&format!("by process {pid}")), "{}", ended.errors);
        assert!(ended.errors.contains(&format!("http://{}", server.address)), "{}", ended.errors);
    }
    // The loser left the winner's name alone; reading is for everybody.
    assert_eq!(std::fs::read_to_string(data.join("lock")).unwrap(), lock);
    let status = edgewright(folder.path(), &["status", "--json"]).await.ends(0).json();
    assert_eq!(status["server_pid"].to_string(), pid);
    assert_eq!(server.stop().await, Some(0));
    let status = edgewright(folder.path(), &["status", "--json"]).await.ends(0).json();
    assert_eq!(status["server_pid"], serde_json::Value::Null);
}

/// Pretends that a newer version migrated a database.
async fn migrate_to_the_future(database: &Path) {
    let mut connection = SqliteConnectOptions::new().filename(database).connect().await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'later', 1, x'00', 0)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_nothing_is_touched() {
    for database in ["control.db", "registry/registry.db"] {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::plants(folder.path().join("plants"), &["a"]).await;
        edgewright(folder.path(), &["run", repository.url()]).await.ends(0);
        let path = folder.path().join("data").join(database);
        migrate_to_the_future(&path).await;
        let before = std::fs::read(&path).unwrap();
        for arguments in [&["serve", "--listen", "127.0.0.1:0"][..], &["run", repository.url()]] {
            let ended = edgewright(folder.path(), arguments).await.ends(2);
            let name = Path::new(database).file_name().unwrap().to_str().unwrap();
            assert!(ended.errors.contains(name), "{}", ended.errors);
            assert!(ended.errors.contains("version") && ended.errors.contains("newer"), "{}", ended.errors);
        }
        assert_eq!(std::fs::read(&path).unwrap(), before, "{database} was written");
    }
}
