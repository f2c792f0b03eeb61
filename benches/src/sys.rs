//! The system calls that the benches need and std does not offer: plain `send(2)`, accept, epoll,
//! core pinning, a descriptor table per thread. Owns the only `unsafe` of this crate; never
//! decides anything, never retries, never allocates on a path that is measured.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A C result: negative is an error whose number is in `errno`.
fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn checked_len(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn read_clock(clock: libc::clockid_t) -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime writes one timespec; `t` is one and outlives the call. Fails only for
    // an unknown clock, and both callers name clocks every Linux has. Test: the_clocks_move.
    unsafe { libc::clock_gettime(clock, &raw mut t) };
    t.tv_sec.unsigned_abs() * 1_000_000_000 + t.tv_nsec.unsigned_abs()
}

/// CLOCK_MONOTONIC in nanoseconds: the same for every process of the machine, so a sender's stamp
/// can be read by a receiver.
#[must_use]
pub fn monotonic_ns() -> u64 {
    read_clock(libc::CLOCK_MONOTONIC)
}

/// CPU time of the calling thread, nanoseconds.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    read_clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn core_set(cores: &[usize]) -> libc::cpu_set_t {
    // SAFETY: cpu_set_t is a plain array of words; all zero is the empty set. Test:
    // a_pinned_thread_may_use_one_core.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &core in cores {
        // SAFETY: CPU_SET checks `core` against the size of the set before it writes. Test: as
        // above.
        unsafe { libc::CPU_SET(core, &mut set) };
    }
    set
}

/// Lets the calling thread run on `core` only.
///
/// # Errors
/// The core does not exist or is not in the process's cpuset.
pub fn pin_thread(core: usize) -> io::Result<()> {
    let set = core_set(&[core]);
    // SAFETY: the kernel reads `size_of` bytes of `set`, which lives through the call; pid 0 is the
    // calling thread. Test: a_pinned_thread_may_use_one_core.
    checked(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) })?;
    Ok(())
}

/// The cores the calling thread may run on.
///
/// # Errors
/// The kernel's set is larger than ours (more than 1024 cores).
pub fn cores_allowed() -> io::Result<Vec<usize>> {
    // SAFETY: all zero is the empty set. Test: a_pinned_thread_may_use_one_core.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most `size_of` bytes of `set`. Test: as above.
    checked(unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) })?;
    // SAFETY: CPU_ISSET checks the core against the size of the set. Test: as above.
    let allowed = |core: &usize| unsafe { libc::CPU_ISSET(*core, &set) };
    Ok((0..libc::CPU_SETSIZE.unsigned_abs() as usize).filter(allowed).collect())
}

/// Gives the calling thread a descriptor table of its own, so that the open-file limit counts for
/// this thread alone. What is open now stays open in both: call it before sockets exist.
///
/// # Errors
/// The kernel refused to copy the table.
pub fn own_descriptor_table() -> io::Result<()> {
    // SAFETY: CLONE_FILES touches no memory of ours; descriptors that other threads open later are
    // not in this table, and no OwnedFd crosses threads after this call. Test:
    // two_tables_hold_more_than_one.
    checked(unsafe { libc::unshare(libc::CLONE_FILES) })?;
    Ok(())
}

/// Raises the soft limit of open files to the hard one; the limit then in force.
///
/// # Errors
/// The kernel refused to tell or to set the limit.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit. Test: the_soft_limit_becomes_the_hard_one.
    checked(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the kernel reads one rlimit. Test: as above.
    checked(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(limit.rlim_cur)
}

/// Sends SIGTERM; an error where the process is gone.
///
/// # Errors
/// No such process, or not ours.
pub fn terminate(pid: u32) -> io::Result<()> {
    let pid = pid.cast_signed();
    assert!(pid > 1, "a process id of a child is above 1");
    // SAFETY: kill touches no memory; `pid` is above 1, so neither a group nor everyone is meant.
    // Test: harness::child drops a child that must then be gone.
    checked(unsafe { libc::kill(pid, libc::SIGTERM) })?;
    Ok(())
}

/// Makes `command` start on `cores` only (all its threads inherit that), and end with this process.
pub fn confine(command: &mut Command, cores: &[usize]) {
    let set = core_set(cores);
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are
    // allowed: sched_setaffinity and prctl are plain system calls, nothing is allocated (the error
    // is built from errno alone), and `set` was copied in. Test: a_child_starts_on_its_core.
    unsafe {
        command.pre_exec(move || {
            checked(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set))?;
            checked(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM))?;
            Ok(())
        });
    }
}

fn socket(flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed. Test: every test that connects.
    let fd = checked(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | flags, 0) })?;
    // SAFETY: the kernel has just made `fd`, and nobody else has it. Test: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_option(fd: RawFd, level: i32, name: i32, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes at `value`, which is a c_int on this stack. Test:
    // a_listener_carries_the_options_of_the_engine.
    checked(unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), length) })?;
    Ok(())
}

/// The value of an integer socket option.
///
/// # Errors
/// Not a socket, or no such option.
pub fn option(fd: &impl AsRawFd, level: i32, name: i32) -> io::Result<i32> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    let fd = fd.as_raw_fd();
    // SAFETY: the kernel writes at most `length` bytes at `value`. Test: as for `set_option`.
    checked(unsafe {
        libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut length)
    })?;
    Ok(value)
}

fn in_kernel_words(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

const ADDRESS_LENGTH: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;

fn bind(fd: &OwnedFd, address: SocketAddrV4) -> io::Result<()> {
    let words = in_kernel_words(address);
    // SAFETY: the kernel reads ADDRESS_LENGTH bytes of `words`, which is a sockaddr_in. Test: every
    // test that listens.
    checked(unsafe { libc::bind(fd.as_raw_fd(), (&raw const words).cast(), ADDRESS_LENGTH) })?;
    Ok(())
}

/// Listens with the socket options of the engine's listener (its defaults): TCP_NODELAY,
/// TCP_NOTSENT_LOWAT 16 KiB, TCP_USER_TIMEOUT 30 s, SO_REUSEPORT, the longest backlog the kernel
/// allows. Accepted sockets inherit them. Blocking.
///
/// # Errors
/// IPv6, a port that is taken, or a kernel without one of the options.
pub fn listen_as_the_engine_does(address: SocketAddr) -> io::Result<OwnedFd> {
    let SocketAddr::V4(address) = address else {
        return Err(io::Error::other(format!(
            "{address} is not IPv4; the benches use 127.0.0.0/8"
        )));
    };
    let fd = socket(libc::SOCK_CLOEXEC)?;
    let raw = fd.as_raw_fd();
    set_option(raw, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    set_option(raw, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    set_option(raw, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    set_option(raw, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, 16 * 1024)?;
    set_option(raw, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 30_000)?;
    bind(&fd, address)?;
    // SAFETY: no memory is passed. Test: every test that listens.
    checked(unsafe { libc::listen(raw, 65_535) })?;
    Ok(fd)
}

/// The port a socket is bound to.
///
/// # Errors
/// Not a bound IPv4 socket.
pub fn local_port(fd: &impl AsRawFd) -> io::Result<u16> {
    let mut words = in_kernel_words(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
    let mut length = ADDRESS_LENGTH;
    let raw = fd.as_raw_fd();
    // SAFETY: the kernel writes at most `length` bytes of `words`. Test: every test with port 0.
    checked(unsafe { libc::getsockname(raw, (&raw mut words).cast(), &raw mut length) })?;
    Ok(u16::from_be(words.sin_port))
}

/// Waits until a connection arrives and takes it; the new socket does not block.
///
/// # Errors
/// As accept4(2): out of descriptors, interrupted.
pub fn accept(listener: &impl AsRawFd) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let (none, none_length) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: null for address and length asks for no address. Test: bare_reaches_every_viewer.
    let fd = checked(unsafe { libc::accept4(listener.as_raw_fd(), none, none_length, flags) })?;
    // SAFETY: the kernel has just made `fd`, and nobody else has it. Test: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// One plain `send(2)` that never waits and never raises SIGPIPE.
///
/// # Errors
/// As send(2); `WouldBlock` where the socket is full.
pub fn send(fd: &impl AsRawFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the kernel reads `len` bytes of `bytes` during the call. Test:
    // bare_reaches_every_viewer.
    checked_len(unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) })
}

/// One plain `recv(2)` that never waits; 0 where the peer closed.
///
/// # Errors
/// As recv(2); `WouldBlock` where nothing is there.
pub fn receive(fd: &impl AsRawFd, into: &mut [u8]) -> io::Result<usize> {
    let (start, length) = (into.as_mut_ptr().cast(), into.len());
    // SAFETY: the kernel writes at most `length` bytes into `into`, which is borrowed mutably for
    // the call. Test: bare_reaches_every_viewer.
    checked_len(unsafe { libc::recv(fd.as_raw_fd(), start, length, libc::MSG_DONTWAIT) })
}

/// Begins to connect from `source` (its port chosen at connect, so that each source address has
/// the whole port range); finished when the socket is writable and [`connect_error`] is `None`.
/// `receive_buffer_bytes` above 0 fixes SO_RCVBUF.
///
/// # Errors
/// Out of descriptors or ports.
pub fn connect(
    source: Ipv4Addr,
    target: SocketAddrV4,
    receive_buffer_bytes: u32,
) -> io::Result<OwnedFd> {
    let fd = socket(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)?;
    let raw = fd.as_raw_fd();
    set_option(raw, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    set_option(raw, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    if receive_buffer_bytes > 0 {
        let bytes = i32::try_from(receive_buffer_bytes).unwrap_or(i32::MAX);
        set_option(raw, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes)?;
    }
    bind(&fd, SocketAddrV4::new(source, 0))?;
    let words = in_kernel_words(target);
    // SAFETY: the kernel reads ADDRESS_LENGTH bytes of `words`, which is a sockaddr_in. Test:
    // bare_reaches_every_viewer.
    match checked(unsafe { libc::connect(raw, (&raw const words).cast(), ADDRESS_LENGTH) }) {
        Ok(_) => Ok(fd),
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => Ok(fd),
        Err(e) => Err(e),
    }
}

/// What became of a connect that was begun: `None` where it stands.
///
/// # Errors
/// Not a socket.
pub fn connect_error(fd: &impl AsRawFd) -> io::Result<Option<io::Error>> {
    let code = option(fd, libc::SOL_SOCKET, libc::SO_ERROR)?;
    Ok((code != 0).then(|| io::Error::from_raw_os_error(code)))
}

/// Makes close(2) send RST at once: no TIME_WAIT keeps the port.
///
/// # Errors
/// Not a socket.
pub fn reset_on_close(fd: &impl AsRawFd) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = size_of::<libc::linger>() as libc::socklen_t;
    let (raw, name) = (fd.as_raw_fd(), libc::SO_LINGER);
    // SAFETY: the kernel reads `length` bytes at `linger`, which is one. Test:
    // bare_accepts_and_counts_connects.
    checked(unsafe {
        libc::setsockopt(raw, libc::SOL_SOCKET, name, (&raw const linger).cast(), length)
    })?;
    Ok(())
}

/// What an [`Epoll`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes or the end of the stream.
    Read,
    /// A finished connect, or room in the socket.
    Write,
}

impl Interest {
    fn bits(self) -> u32 {
        match self {
            Interest::Read => libc::EPOLLIN as u32,
            Interest::Write => libc::EPOLLOUT as u32,
        }
    }
}

/// A level-triggered epoll set.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
    ready: Vec<libc::epoll_event>,
}

impl Epoll {
    /// A set that hands out at most `ready_max` sockets a wait.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn new(ready_max: usize) -> io::Result<Epoll> {
        // SAFETY: no memory is passed. Test: every test with a sink.
        let fd = checked(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel has just made `fd`, and nobody else has it. Test: as above.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Epoll { fd, ready: Vec::with_capacity(ready_max) })
    }

    fn control(&self, what: i32, fd: RawFd, interest: Interest, token: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest.bits(), u64: u64::from(token) };
        // SAFETY: the kernel reads one epoll_event; it keeps the token, not the pointer. Test:
        // every test with a sink.
        checked(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), what, fd, &raw mut event) })?;
        Ok(())
    }

    /// Watches `fd`; `token` comes back from [`Epoll::wait`]. Closing the socket ends it.
    ///
    /// # Errors
    /// Already in the set, or out of memory.
    pub fn add(&self, fd: &impl AsRawFd, interest: Interest, token: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), interest, token)
    }

    /// Watches for something else.
    ///
    /// # Errors
    /// Not in the set.
    pub fn change(&self, fd: &impl AsRawFd, interest: Interest, token: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd.as_raw_fd(), interest, token)
    }

    /// The tokens of the sockets that are ready; none after `timeout_ms`.
    ///
    /// # Errors
    /// None but EINTR, which is answered with no token.
    pub fn wait(&mut self, timeout_ms: i32) -> io::Result<impl Iterator<Item = u32>> {
        let room = i32::try_from(self.ready.capacity()).unwrap_or(i32::MAX);
        let (raw, start) = (self.fd.as_raw_fd(), self.ready.as_mut_ptr());
        // SAFETY: the kernel writes at most `room` events, the capacity of `ready`. Test: every
        // test with a sink.
        let got = match checked(unsafe { libc::epoll_wait(raw, start, room, timeout_ms) }) {
            Ok(n) => n.unsigned_abs() as usize,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => 0,
            Err(e) => return Err(e),
        };
        // SAFETY: the kernel has written the first `got` events, and `got` is at most the capacity.
        // Test: as above.
        unsafe { self.ready.set_len(got) };
        Ok(self.ready.iter().map(|event| event.u64 as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_move() {
        let (wall, cpu) = (monotonic_ns(), thread_cpu_ns());
        let mut sum = 0_u64;
        while thread_cpu_ns() < cpu + 1_000_000 {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(monotonic_ns() - wall >= 1_000_000, "a millisecond of CPU takes one of time");
    }

    #[test]
    fn a_pinned_thread_may_use_one_core() {
        std::thread::spawn(|| {
            let last = *cores_allowed().expect("affinity").last().expect("one core at least");
            pin_thread(last).expect("it is allowed");
            assert_eq!(cores_allowed().expect("affinity"), [last]);
        })
        .join()
        .expect("the thread ends");
        assert!(pin_thread(1023).is_err(), "a core that does not exist is refused");
    }

    #[test]
    fn a_child_starts_on_its_core() {
        let mut command = Command::new("nproc");
        confine(&mut command, &cores_allowed().expect("affinity")[..1]);
        let out = command.output().expect("nproc runs");
        assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "1");
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = raise_open_files().expect("limit");
        assert_eq!(raise_open_files().expect("limit"), limit);
        assert!(limit >= 256, "a bench needs descriptors");
    }

    #[test]
    fn two_tables_hold_more_than_one() {
        let open = || std::fs::read_dir("/proc/thread-self/fd").expect("proc").count();
        std::thread::spawn(move || {
            own_descriptor_table().expect("unshare");
            let before = open();
            let sockets: Vec<_> = (0..50).map(|_| socket(0).expect("socket")).collect();
            assert_eq!(open(), before + sockets.len());
            let (say, hear) = std::sync::mpsc::channel();
            let (answer, answered) = std::sync::mpsc::channel::<()>();
            let elsewhere = std::thread::spawn(move || {
                own_descriptor_table().expect("unshare");
                let held: Vec<_> = (0..30).map(|_| socket(0).expect("socket")).collect();
                say.send(open()).expect("heard");
                answered.recv().expect("answered");
                drop(held);
            });
            let theirs = hear.recv().expect("said");
            assert_eq!(theirs, before + 50 + 30, "its table began as a copy");
            assert_eq!(open(), before + sockets.len(), "its sockets are not in this table");
            answer.send(()).expect("the other thread waits");
            elsewhere.join().expect("the other thread ends");
        })
        .join()
        .expect("the thread ends");
    }

    #[test]
    fn a_listener_carries_the_options_of_the_engine() {
        let listener =
            listen_as_the_engine_does("127.0.0.1:0".parse().expect("address")).expect("listen");
        let port = local_port(&listener).expect("port");
        let target = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let _client = connect(Ipv4Addr::new(127, 0, 0, 2), target, 4096).expect("connect");
        let server = accept(&listener).expect("accept");
        let tcp = |name| option(&server, libc::IPPROTO_TCP, name).expect("option");
        assert_ne!(tcp(libc::TCP_NODELAY), 0);
        assert_eq!(tcp(libc::TCP_NOTSENT_LOWAT), 16 * 1024);
        assert_eq!(tcp(libc::TCP_USER_TIMEOUT), 30_000);
    }
}
