//! `uproar control` and `uproar engine`: the same parts in two processes, joined by the link.
//!
//! Owns which parts each of them has. Control: store, accounts, conversations, HTTP, and the port
//! where engines reach it; no shard. An engine: shards, HTTP for rooms, and the way to control.

use crate::Failure;
use crate::config::Config;
use crate::serve::{Archive, Life, Out, Questions, ReportsTo, at_once, live, start_engine};
use crate::signals::{Drained, Signals, drained};
use crate::start::{
    Base, RUNTIME_END, Serving, THREADS_BESIDE_SHARDS, Whole, announce, bind, failed,
};
use crate::start_block::StartedControl;
use crate::supervisor::Supervisor;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use uproar_control::Bounds;
use uproar_link::{Client, Nodes, server};
use uproar_proto::control::{Control, Engine, Question};
use uproar_proto::issuers::Issuers;

/// Connections of engines that are served at once: each has about five.
const LINK_CONNECTIONS_MAX: usize = 8_192;
/// Longest wait for a request's headers of an engine. Reached: closed.
const LINK_HEADER_MAX: Duration = Duration::from_secs(10);
/// Requests in progress get this long at the end, both servers' own wait for them included.
const END_MAX: Duration = Duration::from_secs(5);

/// Why an engine that serves is not ready: whoever is blocked could join it, and say anything.
const UNKNOWN: &str = "filter and blocks are not known yet: control was never reached";

/// Serves engines, backends and people until it is told to end.
pub(crate) fn control(config: Config) -> Result<ExitCode, Failure> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut base = Base::begin(config, threads)?;
    let link = bind("link.listen", base.config.link.listen, "--link")?;
    let link_address = link.local_addr().map_err(failed)?;
    let kept = base.keep()?.ok_or_else(|| Failure::Usage("store.url is empty".into()))?;
    let issuers = Issuers::new(&base.config.engine.tokens.issuers);
    let issuers = issuers.map_err(|e| Failure::Usage(format!("engine.tokens.{e}")))?;
    let nodes = Arc::<Nodes>::default();
    kept.serve(&base.runtime, &(Arc::clone(&nodes) as Arc<dyn Engine>));
    let blocks = base.keep_blocks(Some(&kept))?;
    base.serve_blocks(&blocks, &(Arc::clone(&nodes) as _));
    base.reports.serve(&(Arc::clone(&nodes) as Arc<dyn Engine>));
    let danmaku = base.keep_danmaku()?;
    let mut api = base.api(Arc::clone(&nodes) as _, Arc::new(issuers), Some(&kept));
    api.danmaku.clone_from(&danmaku);
    api.blocks = Some(blocks);
    let http = base.serve_http(api)?;
    let conversations = Arc::clone(&kept.conversations);
    let gate = base.room_gate();
    nodes.decides(gate.decides());
    gate.serve(Arc::clone(&nodes) as Arc<dyn Engine>, kept.store.generation());
    let reports = Arc::clone(&base.reports);
    let penalties = Arc::clone(&kept.penalties);
    let whole = Whole { conversations, danmaku: danmaku.clone(), penalties, gate, reports };
    let asked = Arc::new(whole) as Arc<dyn Control>;
    let (nodes_of, key) = (Arc::clone(&nodes), base.config.link.key.clone());
    let link = base.serve(link, |listener, stopped| async move {
        let router = server::router(&nodes_of, asked, &key);
        // Engines stand on few machines, and know the key.
        let (connections_max, header_max) = (LINK_CONNECTIONS_MAX, LINK_HEADER_MAX);
        let bounds = Bounds { connections_max, header_max, per_address: None };
        uproar_control::serve_router(router, listener, bounds, stopped).await;
        Ok(())
    })?;
    let (config, http_address) = (&base.config, base.http_address);
    let new_password = base.new_password.as_deref();
    let started = StartedControl { config, http: http_address, link: link_address, new_password };
    let text = started.text();
    let ended = base.runtime.block_on(until_told(&nodes, [http, link], &text, &base.supervisor))?;
    if let Drained::AtOnce(code) = ended {
        at_once(code);
    }
    base.runtime.block_on(kept.end());
    drop(kept);
    if let Some(danmaku) = danmaku {
        danmaku.end();
    }
    base.runtime.shutdown_timeout(RUNTIME_END);
    tracing::info!("ended");
    Ok(ExitCode::SUCCESS)
}

/// Serves until a signal; then lets what is in progress end.
async fn until_told(
    nodes: &Arc<Nodes>,
    servers: [Serving; 2],
    text: &str,
    supervisor: &Arc<Supervisor>,
) -> Result<Drained, Failure> {
    let mut signals = Signals::listen().map_err(failed)?;
    let [mut http, mut link] = servers;
    announce(text);
    supervisor.ready();
    supervisor.beat(|| std::future::ready(true));
    let ended = tokio::select! {
        _ = signals.next() => None,
        ended = &mut http.task => Some(("HTTP", ended)),
        ended = &mut link.task => Some(("the link", ended)),
    };
    if let Some((what, ended)) = ended {
        return Err(Failure::Failed(format!("{what} ended by itself: {ended:?}")));
    }
    supervisor.stopping(END_MAX);
    tracing::info!("ending; a second signal ends at once");
    nodes.end();
    let ending = tokio::spawn(async move { tokio::join!(http.end(), link.end()) });
    Ok(drained(|| ending.is_finished(), signals.next(), END_MAX).await)
}

/// Serves clients until it is told to end.
pub(crate) fn engine(config: Config) -> Result<ExitCode, Failure> {
    let open_files = uproar_engine::io::raise_open_file_limit();
    let mut base = Base::begin(config, THREADS_BESIDE_SHARDS)?;
    let link = &base.config.link;
    let control = link.control.clone();
    let http = rooms_at(&base.config, base.http_address);
    let client = base.runtime.block_on(async { Client::new(link, http) });
    let client = client.map_err(Failure::Failed)?;
    let archive = base.config.danmaku.enabled.then(|| {
        let client = Arc::clone(&client);
        Box::new(move |lines| client.lines(lines)) as Archive
    });
    let asked = Arc::clone(&client) as Arc<dyn Control>;
    let of_rooms = Arc::clone(&client);
    let questions: Questions = Box::new(move |one: Question| of_rooms.question(one));
    let told = Arc::clone(&client);
    let reports = Box::new(move |report| told.report(report)) as ReportsTo;
    let out = Out { archive, questions: Some(questions), reports };
    let known = client.known(uproar_engine::check_filter);
    let engine = start_engine(&base.config, Some(asked), out, known)?;
    client.serve(Arc::clone(&engine) as Arc<dyn Engine>);
    let issuers = Arc::clone(engine.issuers());
    let mut api = base.api(Arc::clone(&engine) as _, issuers, None);
    api.control = Some(control.clone());
    let webhooks = Arc::clone(&client);
    api.decides = Box::new(move || webhooks.decides().unwrap_or(true));
    let told = Arc::clone(&client);
    api.unready = Box::new(move || (!told.is_known()).then_some(UNKNOWN));
    api.figures.push(Box::new(move || client.samples()));
    let http = base.serve_http(api)?;
    live(base, engine, http, Life { open_files, control: Some(control), kept: None, danmaku: None })
}

/// Where whoever asks control for rooms is sent: where HTTP is served, by the node's own name where
/// that is every address of the machine.
fn rooms_at(config: &Config, http: SocketAddr) -> String {
    let named = config.engine.public_address.rsplit_once(':').map(|(host, _)| host);
    match named.filter(|_| http.ip().is_unspecified()) {
        Some(host) => format!("http://{host}:{}", http.port()),
        None => format!("http://{http}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_at_an_address_that_others_reach() {
        let mut config = Config::default();
        let [here, every] = ["127.0.0.1:1", "0.0.0.0:2"].map(|a| a.parse().unwrap());
        assert_eq!(rooms_at(&config, every), "http://0.0.0.0:2", "nothing better is known");
        config.engine.public_address = "a.live.example:7400".into();
        assert_eq!(rooms_at(&config, here), "http://127.0.0.1:1");
        assert_eq!(rooms_at(&config, every), "http://a.live.example:2");
    }
}
