//! The real server on a free port, and a client that writes its requests by hand.

use crate::engine::MemoryEngine;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use uproar_control::store::Store;
use uproar_control::tokens::SigningKey;
use uproar_control::{AccountSettings, Api, Config};
use uproar_proto::control::RoomSettings;

/// The key of servers that have one.
pub(crate) const KEY: &str = "test-key-0123456789";
/// The HS256 secret of servers that mint: bytes 0 to 31.
pub(crate) const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// The largest content of the test's node.
pub(crate) const PAYLOAD_BYTES_MAX: u32 = 16 * 1024;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) engine: Arc<MemoryEngine>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e} in {:?}", self.body))
    }

    /// The text of an error, after checking status and code.
    #[track_caller]
    pub(crate) fn error(&self, status: u16, name: &str) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        let error = &self.json()["error"];
        assert_eq!(error["name"], name, "{}", self.body);
        assert!(error["code"].is_u64() && error["retry"].is_boolean(), "{}", self.body);
        error["text"].as_str().unwrap().to_owned()
    }
}

impl Server {
    /// With the key [`KEY`] and a signing key.
    pub(crate) fn keyed() -> Server {
        Server::with(Config { api_key: KEY.into(), ..Config::default() })
    }

    pub(crate) fn with(config: Config) -> Server {
        Server::with_accounts(config, None, AccountSettings::default())
    }

    /// With the key and a store in this file.
    pub(crate) fn storing(url: &str) -> Server {
        let config = Config { api_key: KEY.into(), ..Config::default() };
        Server::with_accounts(config, Some(url.to_owned()), AccountSettings::default())
    }

    /// With a store at `url`, where there is one.
    pub(crate) fn with_accounts(
        config: Config,
        url: Option<String>,
        accounts: AccountSettings,
    ) -> Server {
        config.check().unwrap();
        let engine = MemoryEngine::start();
        let mut api = Api {
            config,
            engine: Arc::clone(&engine) as Arc<dyn uproar_proto::control::Engine>,
            room_defaults: RoomSettings::default(),
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            signer: Some(SigningKey::hs256(SECRET).unwrap()),
            store: None,
            accounts,
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let shutdown = async move { drop(stopped.await) };
                if let Some(url) = url {
                    api.store = Some(Store::open(&url, true).await.unwrap());
                }
                let store = api.store.clone();
                uproar_control::serve(api, listener, shutdown).await.unwrap();
                if let Some(store) = store {
                    store.close().await;
                }
            });
        });
        Server { address, engine, stop: Some(stop), thread: Some(thread) }
    }

    /// A request with the key, and JSON where there is a body.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        let json = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let headers = format!("Authorization: Bearer {KEY}\r\n{json}");
        self.raw(method, path, &headers, body)
    }

    /// A request with exactly these headers besides what HTTP itself needs.
    pub(crate) fn raw(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let host = if headers.contains("Host:") { "" } else { "Host: localhost\r\n" };
        let length = body.len();
        self.bytes(&format!(
            "{method} {path} HTTP/1.1\r\n{host}Connection: close\r\n{headers}\
             Content-Length: {length}\r\n\r\n{body}"
        ))
    }

    /// Writes a whole request and reads until the server closes.
    pub(crate) fn bytes(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        // A server that refuses early may close before it has read everything.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer with a head");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Tells the server to end and waits for it.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}
