//! Listening and connecting sockets with the options every connection needs.
//!
//! Owns the options and the check that nobody else serves the address. Never accepts.

use super::{ListenOptions, StartError, sys};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// For two seconds an address may still belong to a process that was killed: its ring lets the
/// listener go a moment after it, and a supervisor that starts the next one at once is not to
/// fail for that.
const TRY_AGAIN: Duration = Duration::from_millis(20);
const TRIES_MAX: u32 = 100;

/// Makes sure that no other process (and no other launch of this one) serves the address, and
/// settles port 0. Shards bind with SO_REUSEPORT, under which a second server would silently take
/// half of the connections; this bind is without, so it fails where somebody listens.
///
/// The probe is closed before the shards bind: between the two another process could take the
/// port, and two servers that start within the same millisecond could both pass. Accepted.
pub(super) fn settle_address(address: SocketAddr) -> Result<SocketAddr, StartError> {
    let bound = || -> io::Result<SocketAddr> {
        let probe = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Connections of a previous run may still be closing; they do not matter.
        probe.set_reuse_address(true)?;
        probe.bind(&SockAddr::from(address))?;
        probe
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))
    };
    let mut settled = bound();
    for _ in 0..TRIES_MAX {
        if !matches!(&settled, Err(e) if e.raw_os_error() == Some(libc::EADDRINUSE)) {
            break;
        }
        std::thread::sleep(TRY_AGAIN);
        settled = bound();
    }
    settled.map_err(|e| cannot_listen(address, &e))
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> StartError {
    let hint = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => ": another process listens there; stop it or choose another port",
        Some(libc::EADDRNOTAVAIL) => ": no interface of this machine has that address",
        Some(libc::EACCES) => ": ports below 1024 need a privilege; choose a higher port",
        _ => "",
    };
    StartError::new(format!("cannot listen on {address}: {error}{hint}"))
}

/// Opens one shard's listener. It does not block.
pub(super) fn listen(options: &ListenOptions, address: SocketAddr) -> Result<OwnedFd, StartError> {
    let open = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        let fd = socket.as_raw_fd();
        socket.set_nonblocking(true)?;
        socket.set_reuse_address(true)?;
        sys::set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        // Accepted sockets inherit these, so no connection costs a system call for them.
        sys::set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
        if options.notsent_lowat_bytes > 0 {
            let bytes = int(options.notsent_lowat_bytes);
            sys::set_option(fd, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, bytes)?;
        }
        if options.user_timeout_ms > 0 {
            let ms = int(options.user_timeout_ms);
            sys::set_option(fd, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, ms)?;
        }
        if options.send_buffer_bytes > 0 {
            sys::set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, int(options.send_buffer_bytes))?;
        }
        socket.bind(&SockAddr::from(address))?;
        socket.listen(int(options.backlog.max(1)))?;
        Ok(socket)
    };
    open().map(OwnedFd::from).map_err(|e| cannot_listen(address, &e))
}

fn int(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// Where a driver's `Connect` actions lead, and with which options.
pub(super) struct Dial {
    targets: Vec<SocketAddr>,
    receive_buffer_bytes: u32,
}

impl Dial {
    pub(super) fn new(targets: Vec<SocketAddr>, receive_buffer_bytes: u32) -> Dial {
        Dial { targets, receive_buffer_bytes }
    }

    /// Begins to connect; the descriptor is writable once it is decided. `source`: IPv4 bits, 0
    /// for any.
    pub(super) fn begin(&self, source: u32, target: u16, manual_read: bool) -> io::Result<RawFd> {
        let target = self
            .targets
            .get(usize::from(target))
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EDESTADDRREQ))?;
        let socket = Socket::new(Domain::for_address(*target), Type::STREAM, Some(Protocol::TCP))?;
        let fd = socket.as_raw_fd();
        socket.set_nonblocking(true)?;
        sys::set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
        if manual_read && self.receive_buffer_bytes > 0 {
            // Before the handshake: it decides the window that is offered.
            sys::set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, int(self.receive_buffer_bytes))?;
        }
        if source != 0 {
            // The port is picked at connect, by all four numbers: else 28,000 ports are the bound
            // for one address whatever the target.
            sys::set_option(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
            let source = SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(source)), 0);
            socket.bind(&SockAddr::from(source))?;
        }
        match socket.connect(&SockAddr::from(*target)) {
            Ok(()) => {}
            Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(e) => return Err(e),
        }
        Ok(socket.into_raw_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn options(address: &str) -> ListenOptions {
        ListenOptions {
            address: address.parse().expect("an address"),
            notsent_lowat_bytes: 16_384,
            user_timeout_ms: 30_000,
            send_buffer_bytes: 65_536,
            backlog: 16,
        }
    }

    #[test]
    fn accepted_sockets_inherit_the_options() {
        let options = options("127.0.0.1:0");
        let address = settle_address(options.address).expect("a free port");
        let listener = TcpListener::from(listen(&options, address).expect("a listener"));
        listener.set_nonblocking(false).expect("blocking");
        let _client = TcpStream::connect(address).expect("connected");
        let (accepted, _) = listener.accept().expect("accepted");
        let get = |level, name| sys::option(accepted.as_raw_fd(), level, name).expect("an option");
        assert_eq!(get(libc::IPPROTO_TCP, libc::TCP_NODELAY), 1);
        assert_eq!(get(libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT), 16_384);
        assert_eq!(get(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT), 30_000);
        assert_eq!(get(libc::SOL_SOCKET, libc::SO_SNDBUF), 2 * 65_536, "the kernel doubles it");
    }

    #[test]
    fn shards_share_an_address_and_nobody_else_does() {
        let options = options("127.0.0.1:0");
        let address = settle_address(options.address).expect("a free port");
        assert_ne!(address.port(), 0, "port 0 is settled once for all shards");
        let _first = listen(&options, address).expect("the first shard");
        let _second = listen(&options, address).expect("the second shard");
        let error = settle_address(address).expect_err("somebody listens");
        assert!(error.to_string().contains("another process listens"), "{error}");
    }

    #[test]
    fn an_address_of_another_machine_is_explained() {
        let error =
            settle_address("203.0.113.1:0".parse().expect("an address")).expect_err("not ours");
        assert!(error.to_string().contains("no interface"), "{error}");
    }
}
