//! System calls, each wrapped once so that the rest of `io` is safe code.
//!
//! Owns the calls themselves and the conversion of their arguments and results. Never keeps a
//! descriptor or a pointer beyond the call it was given for.
#![allow(unsafe_code)]
#![deny(clippy::undocumented_unsafe_blocks)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The errno of an error that a system call gave; `EIO` for one that none gave.
pub(super) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

// ---- waking ----

/// A counter that a sleeping thread watches.
pub(super) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: eventfd(2) takes no pointer; a result that is not negative is a new descriptor that
    // nobody else owns (`check` filters the others). Test: every test of `tests/io.rs`.
    unsafe {
        Ok(OwnedFd::from_raw_fd(check(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?))
    }
}

/// Adds one to an eventfd. The counter is never read: the drivers watch it edge-triggered.
pub(super) fn wake(eventfd: RawFd) {
    let one = 1_u64.to_ne_bytes();
    // SAFETY: write(2) reads `one.len()` bytes of `one`, which lives across the call.
    // Test: `a_message_wakes_a_sleeping_thread`.
    let written = unsafe { libc::write(eventfd, one.as_ptr().cast(), one.len()) };
    // EAGAIN would need 2^64 wake-ups without a read; anything else is a foreign descriptor table.
    assert!(written == 8, "a wake-up is written to an eventfd of this launch");
}

// ---- threads ----

/// Gives the calling thread a descriptor table of its own: a copy of the one it shared.
pub(super) fn own_descriptor_table() -> io::Result<()> {
    // SAFETY: unshare(CLONE_FILES) takes no pointer and changes only which table this thread
    // uses; the copy holds the same descriptors. Test: `descriptors_return_to_the_baseline`.
    if unsafe { libc::unshare(libc::CLONE_FILES) } == 0 {
        return Ok(());
    }
    // Container runtimes refuse unshare(2) but not close_range(2), which does the same on the way.
    let above_all: libc::c_long = 0x7fff_ffff;
    // SAFETY: close_range(2) takes no pointer; the range is above every possible descriptor, so
    // it closes nothing. Test: as above, by the fallback it is equal to.
    let result = unsafe {
        libc::syscall(libc::SYS_close_range, above_all, above_all, libc::CLOSE_RANGE_UNSHARE)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keeps signals away from the calling thread, except those it causes itself: a handler that
/// writes to a pipe would write to whatever has the pipe's number in this thread's table.
pub(super) fn block_signals() -> io::Result<()> {
    let own = [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGABRT,
        libc::SIGTRAP,
        libc::SIGPROF,
    ];
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: sigfillset(3) writes the whole of `set`, sigdelset(3) changes it, and
    // pthread_sigmask(3) reads it; a null pointer for the old mask is allowed.
    // Test: `signals_go_to_threads_that_share_the_descriptors`.
    let result = unsafe {
        libc::sigfillset(set.as_mut_ptr());
        for signal in own {
            libc::sigdelset(set.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

/// Closes a descriptor by its number. The caller is the only one that knows it.
pub(super) fn close(fd: RawFd) {
    // SAFETY: close(2) takes no pointer; `fd` comes from a table entry that is emptied by the same
    // caller (`Table::release`, `close_inherited`), so it is closed once.
    // Test: `descriptors_return_to_the_baseline`.
    unsafe { libc::close(fd) };
}

/// Cores the calling thread may run on (cpuset and affinity), in ascending order.
pub(super) fn affinity() -> io::Result<Vec<u16>> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: sched_getaffinity(2) writes at most the given size into `set`, which is that large;
    // all bit patterns are valid. Test: `cores::tests::this_thread_may_use_a_core`.
    let set = unsafe {
        check(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr()))?;
        set.assume_init()
    };
    let bits = u16::try_from(libc::CPU_SETSIZE).unwrap_or(u16::MAX);
    // SAFETY: CPU_ISSET reads bit `core` of `set`; `core` is below CPU_SETSIZE, its length in
    // bits. Test: as above.
    Ok((0..bits).filter(|&core| unsafe { libc::CPU_ISSET(core.into(), &set) }).collect())
}

/// Binds the calling thread to one core.
pub(super) fn pin(core: u16) -> io::Result<()> {
    if i32::from(core) >= libc::CPU_SETSIZE {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: `set` is a zeroed cpu_set_t, for which zero is a valid value; CPU_SET writes bit
    // `core`, checked above against its length; sched_setaffinity(2) reads the given size of it.
    // Test: `cores::tests::a_thread_stays_where_it_was_pinned`.
    unsafe {
        libc::CPU_SET(core.into(), set.assume_init_mut());
        check(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set.as_ptr())).map(drop)
    }
}

/// Open-file limit: (soft, hard).
pub(super) fn open_file_limit() -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit(2) writes one rlimit into `limit`.
    // Test: `cores::tests::the_soft_limit_is_raised_to_the_hard_one`.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Sets the soft open-file limit.
pub(super) fn set_open_file_limit(soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: setrlimit(2) reads one rlimit from `limit`. Test: as `open_file_limit`.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }).map(drop)
}

// ---- clocks ----

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime(2) writes one timespec into `time`; the three clocks used here exist
    // on every Linux. Test: `sys::tests::clocks_go_forward`.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Monotonic time, microseconds.
pub(super) fn monotonic_us() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC) / 1000
}

/// Wall clock, milliseconds since 1970.
pub(super) fn unix_ms() -> u64 {
    clock_ns(libc::CLOCK_REALTIME) / 1_000_000
}

/// CPU time of the calling thread, microseconds.
pub(super) fn thread_cpu_us() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID) / 1000
}

// ---- sockets ----

/// Sets an option whose value is an int.
pub(super) fn set_option(fd: RawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: setsockopt(2) reads `length` bytes of `value`, which is that large.
    // Test: `listener::tests::accepted_sockets_inherit_the_options`.
    check(unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), length) }).map(drop)
}

/// Reads an option whose value is an int.
pub(super) fn option(fd: RawFd, level: i32, name: i32) -> io::Result<i32> {
    let mut value = 0_i32;
    let mut length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: getsockopt(2) writes at most `length` bytes into `value`, which is that large.
    // Test: `listener::tests::accepted_sockets_inherit_the_options`.
    check(unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut length) })?;
    Ok(value)
}

/// What a socket failed with; 0 where it did not. Reading clears it.
pub(super) fn socket_error(fd: RawFd) -> i32 {
    option(fd, libc::SOL_SOCKET, libc::SO_ERROR).unwrap_or_else(|e| errno(&e))
}

/// Shuts a socket down: `libc::SHUT_WR` or `SHUT_RDWR`. A socket that is already gone is fine.
pub(super) fn shutdown(fd: RawFd, how: i32) {
    // SAFETY: shutdown(2) takes no pointer; a wrong descriptor would give an error, and `fd` is
    // one of an occupied table entry. Test: `an_error_frame_arrives_before_the_close`.
    unsafe { libc::shutdown(fd, how) };
}

fn ip_of(storage: &libc::sockaddr_storage) -> IpAddr {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: for AF_INET the kernel wrote a sockaddr_in, and sockaddr_storage is at
            // least as large and as aligned as every address. Test: `echo_over_many_connections`.
            let v4 = unsafe { *(&raw const *storage).cast::<libc::sockaddr_in>() };
            IpAddr::V4(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)))
        }
        libc::AF_INET6 => {
            // SAFETY: as above, with sockaddr_in6. Test: `connections_come_over_ipv6_too`.
            let v6 = unsafe { *(&raw const *storage).cast::<libc::sockaddr_in6>() };
            Ipv6Addr::from(v6.sin6_addr.s6_addr).to_canonical()
        }
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

/// The other end of a connected socket.
pub(super) fn peer_ip(fd: RawFd) -> io::Result<IpAddr> {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: getpeername(2) writes at most `length` bytes into `storage`, which is that large
    // and zeroed (a valid value). Test: `echo_over_many_connections`.
    let storage = unsafe {
        check(libc::getpeername(fd, storage.as_mut_ptr().cast(), &raw mut length))?;
        storage.assume_init()
    };
    Ok(ip_of(&storage))
}

/// Takes one connection from a listener that does not block.
pub(super) fn accept(listener: RawFd) -> io::Result<(RawFd, IpAddr)> {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: accept4(2) writes at most `length` bytes into `storage`, which is that large and
    // zeroed (a valid value). Test: `echo_over_many_connections` on epoll.
    let (fd, storage) = unsafe {
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let fd =
            check(libc::accept4(listener, storage.as_mut_ptr().cast(), &raw mut length, flags))?;
        (fd, storage.assume_init())
    };
    Ok((fd, ip_of(&storage)))
}

/// Sends what the socket takes at once.
pub(super) fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: send(2) reads `bytes.len()` bytes of `bytes`, which is borrowed across the call and
    // not kept. Test: `a_short_send_is_told_exactly`.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Receives what is there, without waiting; 0: the peer will send no more.
pub(super) fn recv(fd: RawFd, into: &mut [u8]) -> io::Result<usize> {
    // SAFETY: recv(2) writes at most `into.len()` bytes into `into`, borrowed mutably across the
    // call and not kept. Test: `echo_over_many_connections` on epoll.
    let got = unsafe { libc::recv(fd, into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT) };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

// ---- epoll ----

/// One line of an epoll result: (readiness, the word it was registered with).
pub(super) type Ready = libc::epoll_event;

/// A readiness list.
pub(super) fn epoll_create() -> io::Result<OwnedFd> {
    // SAFETY: epoll_create1(2) takes no pointer; a result that is not negative is a new
    // descriptor that nobody else owns. Test: every epoll test of `tests/io.rs`.
    unsafe { Ok(OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?)) }
}

/// Adds, changes or removes (`libc::EPOLL_CTL_*`) a descriptor.
pub(super) fn epoll_control(
    epoll: &OwnedFd,
    op: i32,
    fd: RawFd,
    interest: u32,
    word: u64,
) -> io::Result<()> {
    let mut event = libc::epoll_event { events: interest, u64: word };
    // SAFETY: epoll_ctl(2) reads one epoll_event from `event` and does not keep the pointer.
    // Test: every epoll test of `tests/io.rs`.
    check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), op, fd, &raw mut event) }).map(drop)
}

/// Waits for readiness for at most `wait_us` (`None`: without bound); replaces `ready`, whose
/// capacity bounds it. A signal ends the wait early.
pub(super) fn epoll_wait(
    epoll: &OwnedFd,
    ready: &mut Vec<Ready>,
    wait_us: Option<u64>,
) -> io::Result<()> {
    ready.clear();
    let room = i32::try_from(ready.capacity()).unwrap_or(i32::MAX);
    let millis = match wait_us {
        None => -1,
        // Rounded up: a timer that fires before its time would be asked for again at once.
        Some(us) => i32::try_from(us.div_ceil(1000)).unwrap_or(i32::MAX),
    };
    // SAFETY: epoll_wait(2) writes at most `room` events into the vector's allocation, whose
    // capacity is at least `room`. Test: every epoll test of `tests/io.rs`.
    let got = unsafe { libc::epoll_wait(epoll.as_raw_fd(), ready.as_mut_ptr(), room, millis) };
    match check(got) {
        Ok(got) => {
            // SAFETY: the kernel initialised the first `got` events, and `got` is not above
            // `room`, hence not above the capacity. Test: as above.
            unsafe { ready.set_len(usize::try_from(got).unwrap_or(0)) };
            Ok(())
        }
        Err(e) if e.raw_os_error() == Some(libc::EINTR) => Ok(()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_go_forward() {
        let (tick, cpu) = (monotonic_us(), thread_cpu_us());
        let mut x = 1_u64;
        while monotonic_us() < tick + 2_000 {
            x = x.wrapping_mul(31).rotate_left(7);
        }
        assert!(std::hint::black_box(x) != 0 || monotonic_us() > tick);
        assert!(thread_cpu_us() > cpu, "a busy thread uses CPU time");
        assert!(unix_ms() > 1_700_000_000_000, "the wall clock counts from 1970");
    }
}
