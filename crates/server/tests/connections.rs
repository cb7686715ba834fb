//! Clients that connect and wait, on a real server.

#![expect(clippy::unwrap_used, reason = "a test fails at the first wrong assumption")]

mod common;

use common::{Credentials, Served};
use edgewright_api::access::Method;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_silence_neither_api_nor_registry() {
    let served = Served::start(true).await;
    let mut waiting = Vec::new();
    for number in 0..1_100 {
        let mut stream = TcpStream::connect(served.address()).await.unwrap();
        // Some of them have begun a request.
        if number % 2 == 0 {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: ").await.unwrap();
        }
        waiting.push(stream);
    }
    for path in ["/healthz", "/v2/_catalog"] {
        let response = served.ask(Method::Get, path, Credentials::Operator).await;
        assert_eq!(response.status(), 200, "{path}");
    }
    drop(waiting);
    served.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_kept_connections() {
    let served = Served::start(true).await;
    let response = served.ask(Method::Get, "/healthz", Credentials::Anonymous).await;
    assert_eq!(response.text().await.unwrap(), "ok\n");
    // The client keeps its connection for the next request.
    served.close().await;
}
