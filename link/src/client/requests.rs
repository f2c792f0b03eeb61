//! The three requests of an engine, and what their answers mean.

use crate::config::Config;
use crate::v1::{Hello, Linked, Load, Place};
use crate::{BUILD, VERSION, random_name};
use bytes::Bytes;
use prost::Message as _;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{RequestBuilder, Response, StatusCode, redirect};
use std::fmt;
use std::time::Duration;

/// The longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// The longest wait for an answer; for the stream, to its beginning.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Why a request came to nothing.
#[derive(Debug)]
pub(super) enum Failed {
    /// Whether it arrived is unknown, or it may be tried again.
    Broken(String),
    /// Control will not have this engine as it is: another key or version.
    Refused(String),
    /// Control does not know this session.
    Gone(u64),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Broken(why) => f.write_str(why),
            Failed::Refused(why) => write!(f, "control refuses this engine: {why}"),
            Failed::Gone(_) => f.write_str("control has lost track of this engine"),
        }
    }
}

/// Where control is, and who asks.
pub(super) struct Requests {
    client: reqwest::Client,
    control: String,
    authorization: HeaderValue,
    instance: u64,
    http: String,
}

impl Requests {
    pub(super) fn new(config: &Config, http: String) -> Result<Requests, String> {
        // Another one may have been installed already: any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Control is where the operator said: not where that place sends us, nor behind what the
        // environment says of the web.
        let mut client = reqwest::Client::builder();
        if !config.control.starts_with("https://") {
            // No certificates are asked for: a small image has none.
            client = client.tls_certs_only([]);
        }
        let client = client
            .connect_timeout(CONNECT_MAX)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .build();
        let why = |e| {
            let mend = "for https, install the system's certificates (ca-certificates)";
            format!("link.control cannot be called: {}; {mend}", told(&e))
        };
        let client = client.map_err(why)?;
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", config.key))
            .map_err(|_| "link.key cannot be carried by a header".to_owned())?;
        authorization.set_sensitive(true);
        let control = config.control.trim_end_matches('/').to_owned();
        Ok(Requests { client, control, authorization, instance: random_name(), http })
    }

    /// Says hello, to go on at `place` where there is one.
    pub(super) async fn hello(
        &self,
        (address, load): (String, Load),
        place: Option<(u64, u64)>,
    ) -> Result<Linked, Failed> {
        let hello = Hello {
            version: VERSION,
            build: BUILD.to_owned(),
            instance: self.instance,
            address,
            http: self.http.clone(),
            load: Some(load),
            resume: place.map(|(session, heard)| Place { session, heard }),
        };
        let request = self.client.post(format!("{}/link/hello", self.control));
        let request = request.body(hello.encode_to_vec()).timeout(ANSWER_MAX);
        let answer = self.answer(request, 0).await?;
        let body = answer.bytes().await.map_err(|e| Failed::Broken(told(&e)))?;
        Linked::decode(body).map_err(|e| Failed::Broken(format!("the answer to hello: {e}")))
    }

    /// Brings a batch.
    pub(super) async fn asks(&self, session: u64, body: Bytes) -> Result<(), Failed> {
        let request = self.client.post(format!("{}/link/asks", self.control));
        self.answer(request.body(body).timeout(ANSWER_MAX), session).await.map(drop)
    }

    /// Opens the stream behind `after`.
    pub(super) async fn stream(&self, session: u64, after: u64) -> Result<Response, Failed> {
        let at = format!("{}/link/stream?session={session}&after={after}", self.control);
        let answer = self.answer(self.client.get(at), session);
        let late = |_| Failed::Broken("control does not open the stream".into());
        tokio::time::timeout(ANSWER_MAX, answer).await.map_err(late)?
    }

    async fn answer(&self, request: RequestBuilder, session: u64) -> Result<Response, Failed> {
        let request = request
            .header(AUTHORIZATION, self.authorization.clone())
            .header(CONTENT_TYPE, "application/x-protobuf");
        let answer = request.send().await.map_err(|e| Failed::Broken(told(&e)))?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            StatusCode::GONE => Err(Failed::Gone(session)),
            StatusCode::UNAUTHORIZED | StatusCode::CONFLICT => {
                Err(Failed::Refused(answer.text().await.unwrap_or_default()))
            }
            // A batch that cannot be understood will not be understood later.
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE if session != 0 => {
                let why = answer.text().await.unwrap_or_default();
                tracing::error!(why, "control cannot read what this engine says");
                Err(Failed::Gone(session))
            }
            status => {
                let why = answer.text().await.unwrap_or_default();
                Err(Failed::Broken(format!("control answered {status}: {why}")))
            }
        }
    }
}

/// An error with its cause: the outer one alone says no more than that a request failed.
pub(super) fn told(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
