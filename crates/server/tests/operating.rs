//! Sinks, reload, backup and restore.

#![expect(clippy::unwrap_used, reason = "a test fails at the first wrong assumption")]

mod common;

use std::sync::Arc;

use common::world::world;
use edgewright_model::error::ErrorClass;
use edgewright_model::run::RunState;
use edgewright_process::Clock;
use edgewright_server::{DataFolder, Options};
use edgewright_store::Store;

#[tokio::test]
async fn deliveries_are_retried_and_a_reload_changes_sinks_and_sources() {
    use axum::http::StatusCode;
    let world = world().await;
    let received = Arc::new(std::sync::Mutex::new(Vec::<serde_json::Value>::new()));
    let events = Arc::clone(&received);
    let take = move |body: String| {
        let events = Arc::clone(&events);
        async move {
            let mut events = events.lock().unwrap();
            events.push(serde_json::from_str(&body).unwrap());
            // The first attempt fails, so it is repeated.
            if events.len() == 1 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::NO_CONTENT }
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().route("/", axum::routing::post(take));
    #[expect(clippy::disallowed_methods, reason = "it ends with the runtime of its test")]
    tokio::spawn(async move { axum::serve(listener, router).await });

    let secret = world.data.root().join("hook");
    std::fs::write(&secret, "0123456789abcdef0123\n").unwrap();
    let file = format!(
        "[server]\nlisten = \"127.0.0.1:1\"\naddress = \"127.0.0.1:5080\"\n[[sink]]\nname = \"ops\"\nkind = \"cloud-events\"\n\
         url = \"http://{address}/\"\n[[source]]\nurl = \"/no/such/other\"\nhook_secret_file = \"{}\"",
        secret.display()
    );
    let settings =
        Options::parse(&file).unwrap().resolve(world.data.root(), std::num::NonZeroUsize::MIN).unwrap();
    let reloaded = world.composition.reload(&settings).await.unwrap();
    assert_eq!(reloaded.changes[..3], ["source plants removed", "source other added", "1 sinks configured"]);
    assert!(reloaded.restart.contains(&"server.listen"), "{reloaded:?}");
    let hook = |token: &'static str| {
        let request = reqwest::Client::new().post(format!("{}/hooks/gitlab/other", world.url));
        async move { request.header("x-gitlab-token", token).send().await.unwrap().status().as_u16() }
    };
    assert_eq!((hook("0123456789abcdef0123").await, hook("another").await), (202, 401));

    // A new sink receives events from now on.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !world.store.sinks().await.unwrap().iter().any(|sink| sink.name == "ops") {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let run = world.running().await;
    while received.lock().unwrap().len() < 3 {
        assert!(std::time::Instant::now() < deadline, "{received:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let received = received.lock().unwrap();
    assert_eq!(received[0], received[1], "every attempt sends the same");
    assert_eq!(received[0]["type"], "dev.edgewright.run.changed");
    assert_eq!(received[0]["subject"], format!("plants/runs/{run}"));
    assert_eq!(
        (&received[0]["data"]["state"], &received[2]["data"]["previous"]),
        (&"queued".into(), &"queued".into())
    );
}

#[tokio::test]
async fn a_backup_of_a_running_server_is_restored_without_channel_positions() {
    use edgewright_server::backup::{BackupError, backup, restore};
    let world = world().await;
    let run = world.running().await;
    let file = world.data.root().join("backup.tar");
    let now = Clock::system().now();
    let made = backup(&world.data, &file, now).await.unwrap();
    let metadata = std::fs::metadata(&file).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777, 0o600);
    assert_eq!(backup(&world.data, &file, now).await.unwrap_err().class(), ErrorClass::Conflict);
    let place = tempfile::tempdir().unwrap();
    let folder = DataFolder::new(place.path().join("new"));
    assert_eq!(restore(&file, &folder).await.unwrap(), made);
    assert!(matches!(restore(&file, &folder).await.unwrap_err(), BackupError::NotEmpty { .. }));
    let store = Store::open(&folder.database()).await.unwrap();
    assert_eq!(store.run(run).await.unwrap().unwrap().state, RunState::Cancelled);
    let source = store.sources().await.unwrap()[0].id;
    assert!(store.decided(source).await.unwrap().is_empty());

    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let damaged = place.path().join("damaged.tar");
    std::fs::write(&damaged, bytes).unwrap();
    let other = DataFolder::new(place.path().join("other"));
    assert!(restore(&damaged, &other).await.is_err());
    assert!(!other.database().exists());
}

#[tokio::test]
async fn a_reload_that_fails_half_way_changes_nothing() {
    use sqlx::Connection as _;
    let world = world().await;
    let mut db = edgewright_sqlite::connect(&world.data.database()).await.unwrap();
    let refuse = "CREATE TRIGGER refused BEFORE INSERT ON sources WHEN new.name = 'second'
                  BEGIN SELECT raise(ABORT, 'refused by the test'); END";
    sqlx::query(refuse).execute(&mut db).await.unwrap();
    let secret = world.data.root().join("hook");
    std::fs::write(&secret, "0123456789abcdef0123\n").unwrap();
    let parse =
        |file: &str| Options::parse(file).unwrap().resolve(world.data.root(), std::num::NonZeroUsize::MIN);
    let good = format!(
        "[server]\nlisten = \"127.0.0.1:1\"\naddress = \"127.0.0.1:5080\"\n[access]\nanonymous = false\n\
         [[sink]]\nname = \"ops\"\nkind = \"cloud-events\"\nurl = \"http://127.0.0.1:1/\"\n\
         [[source]]\nurl = \"/no/such/first\"\nhook_secret_file = \"{}\"\n[[source]]\nurl = \"/no/such/second\"\n",
        secret.display()
    );
    let bad_target =
        "[[target]]\nname = \"far\"\nurl = \"https://far.example/\"\nca_file = \"/no/such/file\"\n";
    for file in [good.clone(), format!("{good}{bad_target}")] {
        world.composition.reload(&parse(&file).unwrap()).await.unwrap_err();
        let followed =
            |name: &str| world.composition.control.wake_named(&system(), &name.parse().unwrap()).unwrap();
        assert_eq!(["plants", "first", "second"].map(followed), [true, false, false]);
        let hook = reqwest::Client::new().post(format!("{}/hooks/gitlab/first", world.url));
        let hook = hook.header("x-gitlab-token", "0123456789abcdef0123").send().await.unwrap();
        assert_eq!(hook.status().as_u16(), 401, "its secret is unknown");
        let anonymous = reqwest::get(format!("{}/api/v1/status", world.url)).await.unwrap();
        assert_eq!(anonymous.status().as_u16(), 200, "anonymous reading is on");
        assert!(!world.store.sinks().await.unwrap().iter().any(|sink| sink.name == "ops"));
    }
    sqlx::query("DROP TRIGGER refused").execute(&mut db).await.unwrap();
    db.close().await.unwrap();
    let reloaded = world.composition.reload(&parse(&good).unwrap()).await.unwrap();
    assert_eq!(reloaded.changes[..3], ["source plants removed", "source first added", "source second added"]);
}

fn system() -> edgewright_control::context::OperationContext {
    edgewright_control::context::OperationContext::system("a test")
}
