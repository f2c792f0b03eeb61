//! The real server on a free port, and a client that writes its requests by hand.

use crate::contract;
use crate::engine::MemoryEngine;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use uproar_control::relations::Policy;
use uproar_control::store::Store;
use uproar_control::tokens::SigningKey;
use uproar_control::{
    AccountSettings, AdminConfig, AdminLogin, Api, Config, Conversations, Filters, GroupsConfig,
    PagesConfig,
};
use uproar_control::{Blocks, BlocksConfig, Danmaku, DanmakuConfig};
use uproar_control::{QualityConfig, Rules, Webhooks};
use uproar_proto::control::{Ask, Asked, ConnectionId, Control as _, Engine, RoomSettings, Tell};
use uproar_proto::issuers::{IssuerSettings, Issuers, Pinned};
use uproar_proto::v1::{self, client_frame, server_frame};

static NEXT_FILE: AtomicU64 = AtomicU64::new(1);
static NEXT_MESSAGE: AtomicU64 = AtomicU64::new(1);

/// The key of servers that have one.
pub(crate) const KEY: &str = "test-key-0123456789";
/// The HS256 secret of servers that mint: bytes 0 to 31.
pub(crate) const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// Devices and networks that servers keep out at most.
pub(crate) const BLOCKS_MAX: u32 = 100;
/// The largest content of the test's node.
pub(crate) const PAYLOAD_BYTES_MAX: u32 = 16 * 1024;

/// How a server of a test is made.
pub(crate) struct Setup {
    pub(crate) config: Config,
    pub(crate) pages: PagesConfig,
    pub(crate) admin: Option<AdminLogin>,
    /// Where its store is.
    pub(crate) url: Option<String>,
    pub(crate) accounts: AccountSettings,
    /// Whether it has a key that signs; without one it takes tokens of [`ISSUER`] alone.
    pub(crate) signs: bool,
    pub(crate) quality: QualityConfig,
    /// Whether it keeps danmaku, and how.
    pub(crate) danmaku: Option<DanmakuConfig>,
}

/// An issuer whose tokens a server takes that signs none; its key is [`SECRET`].
pub(crate) const ISSUER: &str = "https://id.example";

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) engine: Arc<MemoryEngine>,
    store: Option<Arc<Store>>,
    conversations: Option<Arc<Conversations>>,
    pub(crate) danmaku: Option<Arc<Danmaku>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    /// As it came.
    said: String,
    pub(crate) body: String,
}

impl Answer {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.said.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(is, _)| is.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

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

/// A body that came in pieces, whole.
fn unchunked(mut rest: &str) -> String {
    let mut body = Vec::new();
    loop {
        let (length, pieces) = rest.split_once("\r\n").expect("a length");
        let length = usize::from_str_radix(length, 16).expect("hexadecimal");
        if length == 0 {
            return String::from_utf8(body).unwrap();
        }
        body.extend_from_slice(&pieces.as_bytes()[..length]);
        rest = pieces[length..].strip_prefix("\r\n").expect("an end of the piece");
    }
}

/// Conversations of a store; who is told of them is an engine that tells nobody.
fn conversing(
    store: &Arc<Store>,
    engine: &Arc<dyn uproar_proto::control::Engine>,
) -> Arc<Conversations> {
    let rules = Rules {
        policy: Policy::Friends,
        payload_bytes_max: PAYLOAD_BYTES_MAX as usize,
        groups: GroupsConfig { members_max: 5, groups_per_user_max: 3 },
    };
    let conversations = Conversations::new(Arc::clone(store), rules, Webhooks::default());
    conversations.serve(Arc::clone(engine));
    conversations
}

/// Who is kept out, told to this engine.
async fn keeping_out(store: Option<&Arc<Store>>, engine: &Arc<dyn Engine>) -> Arc<Blocks> {
    let bounds = BlocksConfig { blocks_max: BLOCKS_MAX };
    let blocks = Blocks::open(store, &bounds).await.unwrap();
    blocks.serve(Arc::clone(engine));
    blocks
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

    /// With nothing for browsers.
    pub(crate) fn without_pages() -> Server {
        let pages = PagesConfig { enabled: false, ..PagesConfig::default() };
        let config = Config::default();
        Server::plain(config, pages, None, QualityConfig::default())
    }

    /// With the key, and where an operator logs in: with this password.
    pub(crate) fn with_operator(config: Config) -> (Server, String) {
        let name = format!("uproar-operator-{}", NEXT_FILE.fetch_add(1, Ordering::Relaxed));
        let file = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let admin = AdminConfig { password_file: file.clone(), session_s: 60 };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (login, password) = runtime.block_on(AdminLogin::open(&admin)).unwrap().unwrap();
        std::fs::remove_file(file).unwrap();
        let (pages, quality) = (PagesConfig::default(), QualityConfig::default());
        (Server::plain(config, pages, Some(login), quality), password.unwrap())
    }

    /// With the key, without a store, and with these bounds of quality reports.
    pub(crate) fn reporting(quality: QualityConfig) -> Server {
        let config = Config { api_key: KEY.into(), ..Config::default() };
        Server::plain(config, PagesConfig::default(), None, quality)
    }

    /// Without a store.
    fn plain(
        config: Config,
        pages: PagesConfig,
        admin: Option<AdminLogin>,
        quality: QualityConfig,
    ) -> Server {
        let accounts = AccountSettings::default();
        Server::built(Setup {
            config,
            pages,
            admin,
            url: None,
            accounts,
            signs: true,
            quality,
            danmaku: None,
        })
    }

    /// With a store at `url`, where there is one.
    pub(crate) fn with_accounts(
        config: Config,
        url: Option<String>,
        accounts: AccountSettings,
    ) -> Server {
        Server::built(Setup {
            config,
            pages: PagesConfig::default(),
            admin: None,
            url,
            accounts,
            signs: true,
            quality: QualityConfig::default(),
            danmaku: None,
        })
    }

    pub(crate) fn built(setup: Setup) -> Server {
        let Setup { config, pages, admin, url, accounts, signs, quality, danmaku } = setup;
        let danmaku = danmaku.map(|config| Danmaku::start(config).unwrap());
        config.check().unwrap();
        let engine = MemoryEngine::start();
        let issuer = IssuerSettings {
            name: "acme".into(),
            issuer: ISSUER.into(),
            audience: String::new(),
            algorithm: Pinned::HS256,
            key: SECRET.into(),
            jwks_url: String::new(),
        };
        let issuers = if signs { vec![] } else { vec![issuer] };
        let mut api = Api {
            config,
            pages,
            admin,
            drain: Arc::default(),
            engine: Arc::clone(&engine) as Arc<dyn uproar_proto::control::Engine>,
            control: None,
            unready: Box::new(|| None),
            decides: engine.decider(),
            figures: Vec::new(),
            room_defaults: RoomSettings::default(),
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            signer: signs.then(|| SigningKey::hs256(SECRET).unwrap()),
            issuers: Arc::new(Issuers::new(&issuers).unwrap()),
            store: None,
            accounts,
            conversations: None,
            filters: None,
            blocks: None,
            quality: uproar_control::Reports::open(&quality).unwrap(),
            audit_days: 180,
            danmaku: danmaku.clone(),
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (opened, store) = std::sync::mpsc::channel();
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
                api.blocks = Some(keeping_out(store.as_ref(), &api.engine).await);
                api.conversations = store.as_ref().map(|store| conversing(store, &api.engine));
                if let Some(store) = &store {
                    let filters = Filters::open(store).await.unwrap();
                    filters.serve(Arc::clone(&api.engine));
                    api.filters = Some(filters);
                }
                opened.send((store.clone(), api.conversations.clone())).unwrap();
                uproar_control::serve(api, listener, shutdown).await.unwrap();
                if let Some(store) = store {
                    store.close().await;
                }
            });
        });
        let (store, conversations) = store.recv().unwrap();
        let (stop, thread) = (Some(stop), Some(thread));
        Server { address, engine, store, conversations, danmaku, stop, thread }
    }

    /// Writes to a conversation as a device of a user would, and waits for the acknowledgement; the
    /// seq.
    pub(crate) fn says(&self, user: &str, conversation: &str, text: &str) -> u64 {
        let number = NEXT_MESSAGE.fetch_add(1, Ordering::Relaxed);
        let client_msg_id = bytes::Bytes::copy_from_slice(&u128::from(number).to_be_bytes());
        let send = v1::Send {
            conversation: conversation.into(),
            client_msg_id: client_msg_id.clone(),
            text: text.into(),
            ..v1::Send::default()
        };
        let from = ConnectionId { node: 0, shard: 0, conn: 0, serial: number };
        let what = Asked::Frame(client_frame::Body::Send(send));
        self.conversations.as_ref().unwrap().ask(Ask { from, number: 0, user: user.into(), what });
        let sent = self.engine.wait_for("the acknowledgement", |tell| match tell {
            Tell::Answer { to, frames, .. } if *to == from => match &frames[..] {
                [server_frame::Body::Sent(sent)] => Some(sent.clone()),
                other => panic!("{other:?}"),
            },
            _ => None,
        });
        assert_eq!(sent.code, 0, "{sent:?}");
        sent.seq
    }

    /// Reacts to a message, and waits until the log tells the counts.
    pub(crate) fn reacts(&self, user: &str, conversation: &str, seq: u64, reaction: &str) {
        let number = NEXT_MESSAGE.fetch_add(1, Ordering::Relaxed);
        let (conversation, reaction) = (conversation.into(), reaction.to_owned());
        let react = v1::React { conversation, seq, reaction, remove: false };
        let from = ConnectionId { node: 0, shard: 0, conn: 0, serial: number };
        let what = Asked::Frame(client_frame::Body::React(react.clone()));
        self.conversations.as_ref().unwrap().ask(Ask { from, number: 0, user: user.into(), what });
        self.engine.wait_for("the counts", |tell| {
            let (Tell::Push { frame, .. } | Tell::PushAbout { frame, .. }) = tell else {
                return None;
            };
            let server_frame::Body::Stored(stored) = &**frame else { return None };
            let of = |m: &&v1::StoredMessage| m.target_seq == seq && !m.reactions.is_empty();
            let told = stored.messages.iter().find(of)?;
            told.reactions.iter().any(|count| count.reaction == react.reaction).then_some(())
        });
    }

    /// Closes the store under a server that goes on.
    pub(crate) fn close_store(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.store.as_ref().unwrap().close());
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
        let (head, said) = (head.to_lowercase(), head);
        let is_chunked = head.contains("transfer-encoding: chunked");
        let body = if is_chunked { unchunked(body) } else { body.to_owned() };
        let answer = Answer { status, said: said.to_owned(), head, body };
        let mut words = request.split(' ');
        if let (Some(method), Some(path)) = (words.next(), words.next()) {
            contract::check(method, path, &answer);
        }
        answer
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

    /// The same for a server that stays here.
    pub(crate) fn end(&mut self) {
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
