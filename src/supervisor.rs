//! Whoever started this process and wants to know how it is: systemd's protocol, and nothing where
//! nobody asks.
//!
//! Owns what is told (ready, stopping, alive) and the socket that was passed. Never decides when.

use listenfd::ListenFd;
use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

/// A supervisor that does not read is not waited for longer.
const TELL_MAX: Duration = Duration::from_secs(1);
/// What follows a drain: last words, HTTP, webhooks, the store.
const AFTER_DRAIN: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Supervisor {
    socket: Option<UnixDatagram>,
    /// How often it wants a sign of life; half of its own limit.
    beat_every: Option<Duration>,
}

impl Supervisor {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub(crate) fn from_environment() -> Supervisor {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return Supervisor::default() };
        let socket = connected(&name);
        if let Err(error) = &socket {
            // It may end this process for not hearing of it; but nobody else has a complaint.
            tracing::warn!(?name, %error, "NOTIFY_SOCKET cannot be used; no supervisor is told");
        }
        let text = |name| std::env::var(name).ok();
        let (limit, pid) = (text("WATCHDOG_USEC"), text("WATCHDOG_PID"));
        let beat_every = beat_every(limit.as_deref(), pid.as_deref(), std::process::id());
        Supervisor { socket: socket.ok(), beat_every }
    }

    /// It serves.
    pub(crate) fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving");
    }

    /// It drains, for so long at the longest, and is not to be killed before.
    pub(crate) fn stopping(&self, wait_max: Duration) {
        let us = (wait_max + AFTER_DRAIN).as_micros();
        self.tell(&format!("STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC={us}"));
    }

    /// Tells that the process is alive as often as is wanted, each time after `alive` has said so.
    /// Must run on a tokio runtime.
    pub(crate) fn beat<F>(self: &Arc<Self>, alive: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = bool> + Send,
    {
        let Some(every) = self.beat_every else { return };
        let supervisor = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                if alive().await {
                    supervisor.tell("WATCHDOG=1");
                }
                tokio::time::sleep(every).await;
            }
        });
    }

    fn tell(&self, what: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(what.as_bytes()) {
            tracing::warn!(%error, what, "the supervisor could not be told");
        }
    }
}

/// A path, or a name that begins with `@`.
fn connected(name: &OsStr) -> std::io::Result<UnixDatagram> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_write_timeout(Some(TELL_MAX))?;
    Ok(socket)
}

/// Half of the limit, where it is meant for this process.
fn beat_every(limit_us: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    let is_ours = pid.is_none_or(|pid| pid.parse() == Ok(own));
    let limit_us = limit_us?.parse::<u64>().ok().filter(|us| *us > 1 && is_ours)?;
    Some(Duration::from_micros(limit_us / 2))
}

/// The socket of HTTP that was passed (`LISTEN_FDS`); `None` where there is none. Once, before any
/// thread begins.
///
/// # Errors
/// Where something else was passed.
pub(crate) fn passed_http() -> Result<Option<TcpListener>, String> {
    let mut passed = ListenFd::from_env();
    match passed.len() {
        0 => Ok(None),
        1 => passed.take_tcp_listener(0).map_err(|e| {
            format!("the socket that was passed (LISTEN_FDS) is none that listens on TCP: {e}")
        }),
        more => Err(format!(
            "{more} sockets were passed (LISTEN_FDS), and one is taken over: that of HTTP; clients \
             and engines are listened for by this process itself"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(socket: UnixDatagram, beat_every: Option<Duration>) -> Arc<Supervisor> {
        Arc::new(Supervisor { socket: Some(socket), beat_every })
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn it_is_told_in_the_words_of_the_protocol() {
        let name = format!("uproar-supervisor-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listening = UnixDatagram::bind_addr(&address).unwrap();
        let told = of(connected(OsStr::new(&format!("@{name}"))).unwrap(), None);
        told.ready();
        assert_eq!(heard(&listening), "READY=1\nSTATUS=serving");
        told.stopping(Duration::from_secs(30));
        let words = "STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=50000000";
        assert_eq!(heard(&listening), words);
        assert!(connected(OsStr::new("/nowhere/at/all")).is_err());
        Supervisor::default().ready(); // nobody asks
    }

    #[test]
    fn the_watchdog_is_fed_twice_within_its_limit_and_only_while_alive() {
        let own = std::process::id();
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(beat_every(Some("30000000"), None, own), ms(15_000));
        assert_eq!(beat_every(Some("30000000"), Some(&own.to_string()), own), ms(15_000));
        assert_eq!(beat_every(Some("30000000"), Some("1"), own), None);
        assert_eq!(beat_every(Some("soon"), None, own), None);
        assert_eq!(beat_every(None, None, own), None);
        let (here, there) = UnixDatagram::pair().unwrap();
        there.set_read_timeout(ms(200)).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let _on = runtime.enter();
        let told = of(here, ms(1));
        told.beat(|| std::future::ready(false));
        assert!(there.recv(&mut [0; 16]).is_err(), "nothing is told of a process that hangs");
        there.set_read_timeout(ms(20_000)).unwrap();
        told.beat(|| std::future::ready(true));
        assert_eq!((heard(&there), heard(&there)), ("WATCHDOG=1".into(), "WATCHDOG=1".into()));
    }
}
