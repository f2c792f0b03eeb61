//! The ring: submission, completion and the provided receive buffers.
//!
//! Owns everything about io_uring that takes `unsafe`, behind functions that cannot be misused:
//! a frame is lent for one [`Ring::batch`], on whose return the kernel has consumed every
//! submission. Never knows what a connection is; completions are told apart by their word.
#![allow(unsafe_code)]
#![deny(clippy::undocumented_unsafe_blocks)]

use io_uring::types::{BufRingEntry, Fd, SubmitArgs, Timespec};
use io_uring::{
    CompletionQueue, EnterFlags, IoUring, Probe, SubmissionQueue, Submitter, cqueue, opcode, squeue,
};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// Four times the actions of a turn: sends, re-armed receives and polls fit without a second enter.
const SUBMISSIONS: u32 = 4096;
/// The kernel's maximum. Before Linux 6.13 one enter may complete a receive on every connection.
const COMPLETIONS: u32 = 65_536;
/// Receive buffers of a thread: 2 MiB. A poll returns each at once, so they bound one enter's
/// receives, not the connections. None left: the receive ends with ENOBUFS and is armed again.
const BUFFERS: u16 = 1024;
/// A frame of a client is 20 to 300 bytes; larger ones come in pieces.
const BUFFER_BYTES: usize = 2048;
/// The one buffer group.
const GROUP: u16 = 0;
/// How long a first completion waits for others where more is expected soon, and for how many:
/// nothing beside the second a message may take, and fewer wake-ups for both sides of a burst.
const GATHER_US: u32 = 100;
const GATHER_COMPLETIONS: u32 = 32;
/// Enters without progress before the ring counts as broken: with completions reaped in between,
/// the second one succeeds unless the kernel is out of memory for good.
const SUBMIT_TRIES_MAX: u32 = 10_000;
/// The upper four bits of a word say what completed; all ones: a send.
pub(super) const WORD_SEND: u64 = 0xf << 60;

/// One completion, copied out of the ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    /// As it was submitted with.
    pub(super) word: u64,
    /// Bytes or a descriptor; negative: an errno.
    pub(super) result: i32,
    flags: u32,
}

impl Completion {
    /// Whether the multishot operation goes on.
    pub(super) fn more(&self) -> bool {
        cqueue::more(self.flags)
    }
}

/// The ring's memory; freed after everything that points into it.
struct Owner(NonNull<IoUring>);

impl Drop for Owner {
    fn drop(&mut self) {
        // SAFETY: the pointer comes from `Box::into_raw` in `Ring::new` and is freed only here;
        // the queues that borrow from it are declared before it in `Ring`, so they are gone.
        // Test: every uring test of `tests/io.rs` ends with it.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// See the module. Fields are dropped in this order: what borrows the ring, the ring (from then on
/// the kernel completes nothing), the buffers.
pub(super) struct Ring {
    sq: SubmissionQueue<'static>,
    cq: CompletionQueue<'static>,
    submitter: Submitter<'static>,
    ring_registered: bool,
    _owner: Owner,
    buffers: Buffers,
    wait_flags: EnterFlags,
    /// The kernel can wait for several completions and settle for one later (Linux 6.12).
    gathers: bool,
    /// Completions of sends, reaped and not yet told; always emptied within a poll.
    sends: VecDeque<Completion>,
    /// All other completions, reaped and not yet told.
    others: VecDeque<Completion>,
    /// How many times the kernel was entered, and how often its completion queue had overflowed.
    pub(super) enters: u64,
    pub(super) overflows: u64,
}

/// Whether this machine permits and supports all that the driver needs, found by trying.
///
/// # Errors
/// What is missing, in words.
pub(super) fn probe() -> Result<String, String> {
    let ring = Ring::new(8, 16, 4).map_err(|e| match e.raw_os_error() {
        // Profiles of containers answer so too.
        Some(libc::ENOSYS) => {
            "this kernel has no io_uring, or a seccomp profile hides it".to_owned()
        }
        Some(libc::EPERM | libc::EACCES) => "io_uring is not permitted here".to_owned(),
        Some(libc::EINVAL) => "this kernel is older than Linux 6.1".to_owned(),
        _ => format!("a trial ring failed: {e}"),
    })?;
    let mut known = Probe::new();
    ring.submitter
        .register_probe(&mut known)
        .map_err(|e| format!("its operations cannot be listed: {e}"))?;
    let needed = [
        ("SEND", opcode::Send::CODE),
        ("RECV", opcode::Recv::CODE),
        ("ACCEPT", opcode::AcceptMulti::CODE),
        ("POLL_ADD", opcode::PollAdd::CODE),
        ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
    ];
    match needed.into_iter().find(|&(_, code)| !known.is_supported(code)) {
        Some((name, _)) => Err(format!("this kernel has no {name} operation")),
        None => Ok("a trial ring with all that is needed could be set up".to_owned()),
    }
}

fn build(mut submissions: u32, mut completions: u32) -> io::Result<IoUring> {
    let mut index_array = false;
    loop {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_submit_all();
        builder.setup_cqsize(completions).dontfork();
        if !index_array {
            builder.setup_no_sqarray();
        }
        match builder.build(submissions) {
            // Before Linux 6.6 there is no way around the index array.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) && !index_array => index_array = true,
            // Little memory to lock or to allocate in one piece: smaller queues work as well.
            Err(e) if e.raw_os_error() == Some(libc::ENOMEM) && completions > 4096 => {
                submissions = (submissions / 2).max(256);
                completions /= 2;
            }
            other => return other,
        }
    }
}

impl Ring {
    /// A ring for the calling thread, which alone may use it.
    pub(super) fn for_this_thread() -> io::Result<Ring> {
        let mut ring = Ring::new(SUBMISSIONS, COMPLETIONS, BUFFERS)?;
        // Saves a descriptor lookup in every enter; nothing depends on it.
        ring.ring_registered = ring.submitter.register_ring_fd().is_ok();
        // No operation of ours needs a kernel worker; if one ever does, few may start.
        let _ = ring.submitter.register_iowq_max_workers(&mut [1, 4]);
        Ok(ring)
    }

    /// A ring of this size: `submissions` and `completions` are rounded up to powers of two.
    pub(super) fn new(submissions: u32, completions: u32, buffers: u16) -> io::Result<Ring> {
        let ring = build(submissions, completions)?;
        let params = ring.params();
        if !(params.is_feature_nodrop()
            && params.is_feature_ext_arg()
            && params.is_feature_skip_cqe_on_success())
        {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let mut wait_flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        if params.is_feature_no_iowait() {
            // Otherwise a sleeping thread counts as waiting for a disk.
            wait_flags |= EnterFlags::NO_IOWAIT;
        }
        let gathers = params.is_feature_min_timeout();
        let owner = Owner(NonNull::from(Box::leak(Box::new(ring))));
        // SAFETY: the box stays where it is until `owner` is dropped, which `Ring` drops after the
        // three parts; nobody else reaches the `IoUring`, so this is its only borrow.
        // Test: every uring test of `tests/io.rs`.
        let (submitter, sq, cq) = unsafe { &mut *owner.0.as_ptr() }.split();
        let buffers = Buffers::new(buffers);
        // SAFETY: the entries live in `buffers`, at a page-aligned address that does not move, and
        // `Ring` drops them after the ring. Test: `echo_over_many_connections` on uring.
        unsafe {
            let entries = buffers.entries.as_ptr().addr() as u64;
            submitter.register_buf_ring_with_flags(entries, buffers.count, GROUP, 0)?;
        }
        Ok(Ring {
            sq,
            cq,
            submitter,
            ring_registered: false,
            _owner: owner,
            buffers,
            wait_flags,
            gathers,
            sends: VecDeque::new(),
            others: VecDeque::new(),
            enters: 0,
            overflows: 0,
        })
    }

    // ---- operations that name no memory ----

    fn push(&mut self, entry: &squeue::Entry) {
        if self.sq.is_full() {
            self.submit();
        }
        // SAFETY: private; every caller builds an operation that either names no memory of ours
        // (accept without address, poll, cancel, receives into the registered group) or is
        // `Batch::send`, whose bytes live until `batch` has submitted it.
        // Test: every uring test of `tests/io.rs`.
        unsafe { self.sq.push(entry).expect("a submitted queue has room") };
    }

    /// Accepts connections until told otherwise.
    pub(super) fn accept(&mut self, listener: RawFd, word: u64) {
        self.push(
            &opcode::AcceptMulti::new(Fd(listener))
                .flags(libc::SOCK_CLOEXEC)
                .build()
                .user_data(word),
        );
    }

    /// Receives until the peer ends, into provided buffers.
    pub(super) fn receive(&mut self, fd: RawFd, word: u64) {
        self.push(&opcode::RecvMulti::new(Fd(fd), GROUP).build().user_data(word));
    }

    /// Receives once, into a provided buffer.
    pub(super) fn receive_once(&mut self, fd: RawFd, word: u64) {
        let bytes = BUFFER_BYTES as u32;
        let receive =
            opcode::Recv::new(Fd(fd), std::ptr::null_mut(), bytes).buf_group(GROUP).build();
        self.push(&receive.flags(squeue::Flags::BUFFER_SELECT).user_data(word));
    }

    /// Completes once the socket is writable or has failed.
    pub(super) fn poll_writable(&mut self, fd: RawFd, word: u64) {
        self.push(&opcode::PollAdd::new(Fd(fd), libc::POLLOUT as u32).build().user_data(word));
    }

    /// Completes at every wake-up of an eventfd.
    pub(super) fn poll_wake(&mut self, fd: RawFd, word: u64) {
        let poll = opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32).multi(true).build();
        self.push(&poll.user_data(word));
    }

    /// Ends the operation that was submitted with `target`. Costs a search: never on the hot path.
    pub(super) fn cancel(&mut self, target: u64, word: u64) {
        self.push(&opcode::AsyncCancel::new(target).build().user_data(word));
    }

    // ---- sends ----

    /// Lets `fill` push sends, then hands them all to the kernel. On return it holds no pointer
    /// into their bytes: a send that may not wait is done, or refused, when it was consumed.
    pub(super) fn batch<'f>(&mut self, fill: impl FnOnce(&mut Batch<'_, 'f>)) {
        let mut batch = Batch { ring: self, bytes: PhantomData };
        fill(&mut batch);
    }

    /// Hands the whole queue to the kernel.
    fn submit(&mut self) {
        let mut tries = 0;
        loop {
            self.sq.sync();
            if self.sq.is_empty() {
                return;
            }
            assert!(
                tries < SUBMIT_TRIES_MAX,
                "the kernel takes submissions once completions are reaped"
            );
            tries += 1;
            self.run_work();
            if !self.sq.is_empty() {
                self.fetch();
            }
        }
    }

    // ---- completions ----

    /// Waits until something completed or the time passed; submits what is queued on the way.
    /// `None`: without bound; 0: does not wait. `gather`: more is expected soon, so a first
    /// completion waits a moment for others, and one wake-up serves them all.
    pub(super) fn wait(&mut self, wait_us: Option<u64>, gather: bool) {
        let mut args = SubmitArgs::new();
        let mut want = 1;
        if gather && self.gathers && wait_us.is_none_or(|us| us > u64::from(GATHER_US)) {
            args = args.min_wait_usec(GATHER_US);
            want = GATHER_COMPLETIONS;
        }
        match wait_us {
            Some(0) => self.run_work(),
            Some(us) => {
                let timeout =
                    Timespec::new().sec(us / 1_000_000).nsec((us % 1_000_000) as u32 * 1000);
                self.enter(want, self.wait_flags, &args.timespec(&timeout));
            }
            None => self.enter(want, self.wait_flags, &args),
        }
    }

    /// Lets the kernel complete what is ready, without waiting; submits what is queued.
    pub(super) fn run_work(&mut self) {
        self.enter(0, EnterFlags::GETEVENTS | EnterFlags::EXT_ARG, &SubmitArgs::new());
    }

    fn enter(&mut self, want: u32, flags: EnterFlags, args: &SubmitArgs<'_, '_>) {
        self.sq.sync();
        let queued = u32::try_from(self.sq.len()).expect("the queue is bounded");
        self.enters += 1;
        // SAFETY: with EXT_ARG the kernel reads `args` and the timespec it points to during the
        // call; both live across it, and `SubmitArgs` is the struct the kernel expects. What the
        // queued operations point to is argued at `push`. Test: every uring test of `tests/io.rs`.
        let entered = unsafe { self.submitter.enter(queued, want, flags.bits(), Some(args)) };
        self.sq.sync();
        if let Err(error) = entered {
            // Time passed, a signal, or the kernel wants completions reaped first: all of them
            // leave what was not consumed in the queue.
            let usual = [libc::ETIME, libc::EINTR, libc::EAGAIN, libc::EBUSY];
            let errno = error.raw_os_error().unwrap_or(0);
            assert!(usual.contains(&errno), "io_uring_enter failed and the ring is lost: {error}");
        }
    }

    /// Takes all completions out of the ring, those that had overflowed included: a short send
    /// must be known before the next send on its connection.
    pub(super) fn fetch(&mut self) {
        loop {
            self.cq.sync();
            for entry in &mut self.cq {
                let (word, result, flags) = (entry.user_data(), entry.result(), entry.flags());
                let completion = Completion { word, result, flags };
                if word >= WORD_SEND {
                    self.sends.push_back(completion);
                } else {
                    self.others.push_back(completion);
                }
            }
            self.cq.sync();
            if !self.sq.cq_overflow() {
                return;
            }
            self.overflows += 1;
            self.run_work();
        }
    }

    /// Whether another enter may produce completions; a hint that can be stale for long.
    pub(super) fn has_work(&self) -> bool {
        self.sq.taskrun()
    }

    /// Whether operations wait to be submitted.
    pub(super) fn has_submissions(&self) -> bool {
        !self.sq.is_empty()
    }

    /// Whether completions are held that were not told yet.
    pub(super) fn holds_completions(&self) -> bool {
        !self.sends.is_empty() || !self.others.is_empty()
    }

    /// The next completion of a send.
    pub(super) fn next_send(&mut self) -> Option<Completion> {
        self.sends.pop_front()
    }

    /// The next completion of anything else.
    pub(super) fn next_other(&mut self) -> Option<Completion> {
        self.others.pop_front()
    }

    /// Shows the bytes a receive brought to `take`, and gives the buffer back to the kernel.
    pub(super) fn received(&mut self, completion: &Completion, take: impl FnOnce(&[u8])) {
        let Some(buffer) = cqueue::buffer_select(completion.flags) else { return };
        let bytes = usize::try_from(completion.result).unwrap_or(0);
        self.buffers.lend(buffer, bytes, take);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.ring_registered {
            // The registration holds the ring; a thread that goes on must not keep it.
            let _ = self.submitter.unregister_ring_fd();
        }
    }
}

/// Sends that are handed over together; `'f`: how long their bytes live, longer than the batch.
pub(super) struct Batch<'r, 'f> {
    ring: &'r mut Ring,
    bytes: PhantomData<&'f [u8]>,
}

impl<'f> Batch<'_, 'f> {
    /// Sends all of `bytes`, or as much as fits, without waiting. Completes only if not all went:
    /// without MSG_WAITALL a short send would count as a success and be told to nobody.
    pub(super) fn send(&mut self, fd: RawFd, bytes: &'f [u8], word: u64) {
        let length = u32::try_from(bytes.len()).expect("frames are below 4 GiB");
        let flags = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let send = opcode::Send::new(Fd(fd), bytes.as_ptr(), length).flags(flags).build();
        self.ring.push(&send.flags(squeue::Flags::SKIP_SUCCESS).user_data(word));
    }

    /// For operations that name no memory.
    pub(super) fn ring(&mut self) -> &mut Ring {
        self.ring
    }
}

impl Drop for Batch<'_, '_> {
    fn drop(&mut self) {
        self.ring.submit();
        assert_eq!(self.ring.sq.len(), 0, "on return the kernel holds no pointer into frames");
    }
}

/// Receive buffers that the kernel picks from, and the ring by which they are given to it.
struct Buffers {
    entries: NonNull<BufRingEntry>,
    data: NonNull<u8>,
    count: u16,
    tail: u16,
}

const PAGE: usize = 4096;

impl Buffers {
    fn layouts(count: u16) -> (Layout, Layout) {
        let entries = usize::from(count) * size_of::<BufRingEntry>();
        let data = usize::from(count) * BUFFER_BYTES;
        let layout =
            |bytes| Layout::from_size_align(bytes, PAGE).expect("a small size, a power of two");
        (layout(entries), layout(data))
    }

    /// `count` buffers, all of them the kernel's; a power of two.
    fn new(count: u16) -> Buffers {
        assert!(count.is_power_of_two(), "the buffer ring's size is a power of two");
        let (entries, data) = Buffers::layouts(count);
        // SAFETY: neither layout is of size zero, as `count` is at least one. The kernel wants the
        // entries page-aligned, which the layout says. Test: every uring test of `tests/io.rs`.
        let (entries_at, data_at) = unsafe { (alloc_zeroed(entries), alloc_zeroed(data)) };
        let mut buffers = Buffers {
            entries: NonNull::new(entries_at.cast()).unwrap_or_else(|| handle_alloc_error(entries)),
            data: NonNull::new(data_at).unwrap_or_else(|| handle_alloc_error(data)),
            count,
            tail: 0,
        };
        for buffer in 0..count {
            buffers.give_back(buffer);
        }
        buffers
    }

    fn lend(&mut self, buffer: u16, bytes: usize, take: impl FnOnce(&[u8])) {
        assert!(
            buffer < self.count && bytes <= BUFFER_BYTES,
            "the kernel fills buffers it was given"
        );
        // SAFETY: buffer number and length are checked above, so the range lies in the allocation,
        // which was zeroed; the kernel does not write into a buffer between its completion and the
        // `give_back` below. Test: `echo_over_many_connections` on uring.
        take(unsafe {
            std::slice::from_raw_parts(
                self.data.as_ptr().add(usize::from(buffer) * BUFFER_BYTES),
                bytes,
            )
        });
        self.give_back(buffer);
    }

    fn give_back(&mut self, buffer: u16) {
        let place = usize::from(self.tail & (self.count - 1));
        // SAFETY: `place` is below `count` and `buffer` too (checked by `lend`, counted by `new`),
        // so both lie in their allocations. The kernel reads entries only up to the tail, which is
        // published below; the setters leave alone the field of entry 0 that holds the tail.
        // `tail` gives the address of that field, two bytes that the kernel reads atomically.
        // Test: `echo_over_many_connections` on uring uses every buffer many times.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(place);
            entry
                .set_addr(self.data.as_ptr().add(usize::from(buffer) * BUFFER_BYTES).addr() as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(buffer);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        let (entries, data) = Buffers::layouts(self.count);
        // SAFETY: allocated in `new` with the same layouts; `Ring` drops the ring first, and a ring
        // without descriptor cancels its receives instead of completing them.
        // Test: every uring test of `tests/io.rs` ends with it.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), entries);
            dealloc(self.data.as_ptr(), data);
        }
    }
}
