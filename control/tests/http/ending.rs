//! The end of the interface: whoever has connected is still answered.

use axum::Router;
use axum::routing::get;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use uproar_control::{Bounds, serve_router};

async fn asks(mut stream: TcpStream) -> String {
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// On one thread, so that what each side has done by now is known.
async fn a_new_connection_at_the_end() -> String {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let bounds =
        Bounds { connections_max: 8, header_max: Duration::from_secs(5), per_address: None };
    let router = Router::new().route("/", get(async || "here"));
    let serving = tokio::spawn(serve_router(router, listener, bounds, async {
        let _ = stopped.await; // ends by being dropped
    }));
    let new = TcpStream::connect(address).await.unwrap();
    // Accepted behind it, so it is accepted too.
    asks(TcpStream::connect(address).await.unwrap()).await;
    drop(stop);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let answer = asks(new).await;
    serving.await.unwrap();
    answer
}

#[test]
fn a_request_that_is_on_its_way_at_the_end_is_answered() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(a_new_connection_at_the_end());
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("here"), "{answer:?}");
}
