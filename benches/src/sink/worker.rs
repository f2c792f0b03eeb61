//! One worker of the sink: its share of the viewers, in a descriptor table and an epoll set of its
//! own. Never waits for one viewer, never keeps what it read.

use super::hello::{Hello, Words};
use super::read::{Found, Framing, Reader};
use super::{Content, Plan, Shared, lock};
use crate::sys::{self, Epoll, Interest};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;

/// Which viewers are this worker's: those whose number leaves `number` when divided by `of`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) number: u64,
    pub(super) of: u64,
}

impl Share {
    /// How many of the first `viewers` are this worker's.
    fn quota(self, viewers: u64) -> usize {
        (viewers / self.of + u64::from(viewers % self.of > self.number)) as usize
    }

    /// The number of this worker's viewer at `slot`.
    fn viewer(self, slot: usize) -> u64 {
        slot as u64 * self.of + self.number
    }
}

struct Viewer {
    fd: OwnedFd,
    connected: bool,
    joined: bool,
    sampled: bool,
    words: Words,
    reader: Option<Box<Reader>>,
}

struct Worker<'a> {
    plan: &'a Plan,
    share: Share,
    shared: &'a Shared,
    words: &'a [Words],
    epoll: Epoll,
    viewers: Vec<Option<Viewer>>,
    buffer: Vec<u8>,
    stamps: Vec<u64>,
}

pub(super) fn work(plan: &Plan, share: Share, shared: &Shared, words: &[Words]) -> io::Result<()> {
    sys::own_descriptor_table()?;
    let mut worker = Worker {
        plan,
        share,
        shared,
        words,
        epoll: Epoll::new(512)?,
        viewers: Vec::new(),
        buffer: vec![0; 256 * 1024],
        stamps: Vec::new(),
    };
    let mut ready = Vec::new();
    let mut cpu_ns = 0;
    while !shared.stop.load(Relaxed) {
        let ramping = worker.ramp();
        ready.clear();
        ready.extend(worker.epoll.wait(if ramping { 1 } else { 50 })?);
        for &slot in &ready {
            worker.serve(slot as usize);
        }
        let now_ns = sys::thread_cpu_ns();
        shared.cpu_ns.fetch_add(now_ns - cpu_ns, Relaxed);
        cpu_ns = now_ns;
    }
    Ok(())
}

impl Worker<'_> {
    /// Begins connects while there is room for them; whether more are to come.
    fn ramp(&mut self) -> bool {
        let quota = self.share.quota(self.shared.quota.load(Relaxed));
        while self.viewers.len() < quota {
            if self.shared.under_way.load(Relaxed) >= self.plan.in_flight as u64 {
                return true;
            }
            if let Err(e) = self.connect() {
                self.viewers.push(None);
                self.shared.fail(format!("connect: {e}"));
            }
        }
        false
    }

    fn connect(&mut self) -> io::Result<()> {
        let slot = self.viewers.len();
        let number = self.share.viewer(slot);
        let words = self.words[number as usize].clone();
        let source = Ipv4Addr::new(127, 0, 1, 1 + (number % u64::from(self.plan.sources)) as u8);
        let fd = sys::connect(source, self.plan.target, 0)?;
        self.epoll.add(&fd, Interest::Write, slot as u32)?;
        self.shared.under_way.fetch_add(1, Relaxed);
        let sampled = number.is_multiple_of(self.plan.sample);
        let framing = match (self.plan.hello, self.plan.content) {
            (Hello::Tcp, _) => Some(Framing::Tcp),
            (Hello::Ws, _) => Some(Framing::Ws),
            (Hello::Echo, _) => Some(Framing::Answer),
            (Hello::None, Content::Stamped) if sampled => Some(Framing::Stamped(self.plan.payload)),
            (Hello::None, _) => None,
        };
        let reader = framing.map(|framing| Box::new(Reader::new(framing)));
        let joined = false;
        self.viewers.push(Some(Viewer { fd, connected: false, joined, sampled, words, reader }));
        Ok(())
    }

    /// One socket is ready; what goes wrong with it ends this viewer alone.
    fn serve(&mut self, slot: usize) {
        let Some(viewer) = &self.viewers[slot] else { return };
        let done = if viewer.connected { self.receive(slot) } else { self.connected(slot) };
        if let Err(e) = done {
            let Some(viewer) = self.viewers[slot].take() else { return };
            if viewer.joined {
                self.shared.closed.fetch_add(1, Relaxed);
                self.shared.connected.fetch_sub(1, Relaxed);
                self.shared.joined.fetch_sub(1, Relaxed);
                let name = format!("viewer {}: {e}", self.share.viewer(slot));
                lock(&self.shared.first_failure).get_or_insert(name);
                return;
            }
            self.shared.under_way.fetch_sub(1, Relaxed);
            self.shared.connected.fetch_sub(u64::from(viewer.connected), Relaxed);
            self.shared.fail(format!("viewer {}: {e}", self.share.viewer(slot)));
        }
    }

    fn connected(&mut self, slot: usize) -> io::Result<()> {
        let Some(viewer) = &mut self.viewers[slot] else { return Ok(()) };
        if let Some(e) = sys::connect_error(&viewer.fd)? {
            return Err(e);
        }
        self.epoll.change(&viewer.fd, Interest::Read, slot as u32)?;
        viewer.connected = true;
        self.shared.connected.fetch_add(1, Relaxed);
        if viewer.words.first.is_empty() {
            self.joined(slot);
            return Ok(());
        }
        say(&viewer.fd, &std::mem::take(&mut viewer.words.first))
    }

    fn joined(&mut self, slot: usize) {
        let Some(viewer) = &mut self.viewers[slot] else { return };
        viewer.joined = true;
        self.shared.under_way.fetch_sub(1, Relaxed);
        self.shared.joined.fetch_add(1, Relaxed);
        if viewer.sampled && self.plan.content != Content::Bytes {
            self.shared.sampled.fetch_add(1, Relaxed);
        } else {
            viewer.reader = None; // from here on its bytes are only counted
        }
    }

    fn receive(&mut self, slot: usize) -> io::Result<()> {
        let Some(viewer) = &mut self.viewers[slot] else { return Ok(()) };
        let got = match sys::receive(&viewer.fd, &mut self.buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(got) => got,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        };
        self.shared.reads.fetch_add(1, Relaxed);
        self.shared.bytes.fetch_add(got as u64, Relaxed);
        let Some(reader) = &mut viewer.reader else { return Ok(()) };
        let (mut upgraded, mut let_in, mut refused) = (false, false, None);
        let (mut frames, mut messages, mut gaps) = (0, 0, 0);
        let stamps = &mut self.stamps;
        reader.push(&self.buffer[..got], |found| match found {
            Found::Upgraded => upgraded = true,
            Found::Joined => let_in = true,
            Found::Messages(n) => {
                frames += 1;
                messages += u64::from(n);
            }
            Found::Stamp(stamp) => stamps.push(stamp),
            Found::Gap => gaps += 1,
            Found::Verdicts(..) | Found::Other => frames += 1,
            Found::Refused(why) => refused = Some(why),
        });
        if let Some(why) = refused {
            return Err(io::Error::other(why));
        }
        if upgraded {
            say(&viewer.fd, &std::mem::take(&mut viewer.words.upgraded))?;
        }
        let counts_now = viewer.joined && viewer.sampled;
        if let_in && !viewer.joined {
            self.joined(slot);
        }
        if counts_now {
            self.shared.frames.fetch_add(frames, Relaxed);
            self.shared.messages.fetch_add(messages, Relaxed);
            self.shared.gaps.fetch_add(gaps, Relaxed);
            self.record_latency();
        }
        self.stamps.clear();
        Ok(())
    }

    fn record_latency(&self) {
        if self.stamps.is_empty() {
            return;
        }
        let now_ns = sys::monotonic_ns();
        if let Some(latency) = lock(&self.shared.latency).as_mut() {
            for stamp in &self.stamps {
                latency.saturating_record(now_ns.saturating_sub(*stamp).max(1));
            }
        }
    }
}

/// Opening bytes fit an empty socket; one that does not take them all is a fault.
fn say(fd: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    match sys::send(fd, bytes)? {
        n if n == bytes.len() => Ok(()),
        n => Err(io::Error::other(format!("said {n} of {} bytes", bytes.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_viewer_is_the_share_of_exactly_one_worker() {
        for of in 1..=5 {
            for viewers in 0..40 {
                let mut seen: Vec<u64> = (0..of)
                    .map(|number| Share { number, of })
                    .flat_map(|share| (0..share.quota(viewers)).map(move |s| share.viewer(s)))
                    .collect();
                seen.sort_unstable();
                assert_eq!(seen, (0..viewers).collect::<Vec<_>>(), "{viewers} over {of} workers");
            }
        }
    }
}
