//! How the crowd is laid out: which connections a thread carries, and which addresses they come
//! from.
//!
//! Owns the limits of descriptors and ports, checked before anything is opened. Never decides how
//! many connections there are.

use super::{Host, Scenario};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Connections a loopback source address is given, of some 28,000 ports that Linux has for
/// connecting. It looks at the even half of them first, one after the other, so from 14,000 on
/// every connect costs a walk over all of them: half of that half is left free.
const CONNECTIONS_PER_ADDRESS: u32 = 10_000;
/// Connections a process is asked for at most: its memory, and 127.0.0.0/16 as sources.
const CONNECTIONS_MAX: u64 = 2_000_000;
/// Descriptors of a thread that are no connection: ring, wake-ups, standard streams, room to close.
const FILES_APART: u64 = 100;
/// How long a port of a closed connection rests.
const PORT_REST_S: u32 = 60;

/// How many connections of each kind: of the run, or of one thread, where they are numbered in
/// this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heads {
    pub(crate) publishers: u32,
    pub(crate) viewers: u32,
    /// Viewers that stop reading.
    pub(crate) frozen: u32,
    /// Connections that join and leave.
    pub(crate) churners: u32,
    /// Connections that come and go.
    pub(crate) passers: u32,
}

impl Heads {
    /// All of them.
    pub(crate) fn total(&self) -> u32 {
        self.publishers + self.viewers + self.frozen + self.churners + self.passers
    }
}

/// One thread's part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) heads: Heads,
    /// Connections of the threads before it: numbers are unique in the run.
    pub(crate) first: u32,
}

/// Spreads the connections over threads: publishers on the first, all others evenly on the rest
/// (with one thread, together).
pub(super) fn parts(heads: &Heads, threads: Option<u16>, host: &Host) -> Result<Vec<Part>, String> {
    let room = host.files_per_thread.saturating_sub(FILES_APART).max(1);
    let crowd = u64::from(heads.total() - heads.publishers);
    let needed = crowd.div_ceil(room).max(1);
    let total = u64::from(heads.total());
    if total > CONNECTIONS_MAX {
        return Err(format!("{total} connections: one process carries at most {CONNECTIONS_MAX}"));
    }
    let alone = heads.publishers > 0;
    let threads = match threads {
        Some(0) => return Err("--threads 0: allowed is 1 to 1000".into()),
        Some(n) => u64::from(n),
        None => needed + u64::from(alone),
    };
    if threads > 1000 {
        return Err(format!("{threads} threads: allowed is 1 to 1000"));
    }
    let together = threads == 1 || !alone;
    let carriers = if together { threads } else { threads - 1 };
    let fits = if threads == 1 { total <= room } else { crowd.div_ceil(carriers) <= room };
    if !fits || u64::from(heads.publishers) > room {
        return Err(format!(
            "{total} connections on {threads} threads: a thread may open {} files \
             (`ulimit -Hn`) and each has its own; use --threads {} or more",
            host.files_per_thread,
            needed + u64::from(alone),
        ));
    }
    let share = |n: u32, place: u64| {
        let (n, place) = (u64::from(n), place);
        ((n * (place + 1) / carriers) - (n * place / carriers)) as u32
    };
    let mut parts = Vec::new();
    let mut first = 0;
    for thread in 0..threads {
        let place = if together { Some(thread) } else { thread.checked_sub(1) };
        let mut part = Heads::default();
        if let Some(place) = place {
            part.viewers = share(heads.viewers, place);
            part.frozen = share(heads.frozen, place);
            part.churners = share(heads.churners, place);
            part.passers = share(heads.passers, place);
        }
        if thread == 0 {
            part.publishers = heads.publishers;
        }
        parts.push(Part { heads: part, first });
        first += part.total();
    }
    Ok(parts)
}

/// How many loopback addresses the crowd comes from.
pub(super) fn sources(
    heads: &Heads,
    scenario: Scenario,
    target: SocketAddr,
    host: &Host,
) -> Result<(Ipv4Addr, u32), String> {
    let resting = match scenario {
        Scenario::Churn { connects_per_s, .. } => connects_per_s.saturating_mul(PORT_REST_S),
        Scenario::Storm => heads.total(),
        _ => 0,
    };
    let ports = heads.total().saturating_add(resting);
    let loopback = matches!(target.ip(), IpAddr::V4(ip) if ip.is_loopback());
    let per_address = CONNECTIONS_PER_ADDRESS.min(host.ports_per_address / 2).max(1);
    let addresses = ports.div_ceil(per_address);
    if loopback && addresses > 1 {
        return Ok((Ipv4Addr::new(127, 0, 1, 1), addresses));
    }
    // One address, with a tenth of its ports for others.
    let most = host.ports_per_address / 10 * 9;
    if ports > most {
        let ip = target.ip();
        return Err(format!(
            "{ports} ports are needed and one address has about {most} for {ip}: run the tester \
             on more machines, or against a loopback address"
        ));
    }
    Ok((Ipv4Addr::LOCALHOST, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::{good, plan};

    #[test]
    fn every_connection_has_exactly_one_place() {
        let lines = [
            "live --viewers 1",
            "live --viewers 199999",
            "live --viewers 7 --threads 5",
            "live --viewers 300 --threads 1",
            "churn --viewers 50001 --joins-per-s 20000 --connects-per-s 100",
            "slow --viewers 5000",
            "idle --viewers 45000",
        ];
        for line in lines {
            let plan = good(line);
            let mut first = 0;
            let mut sum = Heads::default();
            for part in &plan.parts {
                assert_eq!(part.first, first, "{line}");
                first += part.heads.total();
                assert!(u64::from(part.heads.total()) <= 19_900, "{line}: {part:?}");
                sum.publishers += part.heads.publishers;
                sum.viewers += part.heads.viewers;
                sum.frozen += part.heads.frozen;
                sum.churners += part.heads.churners;
                sum.passers += part.heads.passers;
            }
            assert_eq!(sum, plan.heads, "{line}");
        }
    }

    #[test]
    fn threads_follow_the_open_file_limit() {
        assert_eq!(
            good("live --viewers 50000").parts.len(),
            4,
            "three for viewers, one for publishers"
        );
        assert_eq!(good("idle --viewers 50000").parts.len(), 3);
        let error = plan("live --viewers 50000 --threads 2").expect_err("does not fit");
        assert!(error.contains("--threads 4"), "{error}");
    }

    #[test]
    fn sources_are_as_many_as_the_ports_ask_for() {
        assert_eq!(good("live --viewers 9000").sources.1, 0);
        let large = good("live --viewers 200000");
        assert_eq!(large.sources.1, 21);
        let mut per_source = std::collections::BTreeMap::<u32, u32>::new();
        for number in 0..large.heads.total() {
            *per_source.entry(large.source(number)).or_default() += 1;
        }
        assert_eq!(per_source.len(), 21);
        assert!(per_source.values().all(|n| *n <= CONNECTIONS_PER_ADDRESS));
        assert!(per_source.keys().all(|bits| Ipv4Addr::from(*bits).is_loopback()));
        let churn = good("churn --viewers 1000 --connects-per-s 1000");
        assert_eq!(churn.sources.1, 7, "62,000 and more ports: those of closed connections rest");
        let error = plan("live --viewers 50000 --target 192.0.2.1:7400").expect_err("one address");
        assert!(error.contains("more machines"), "{error}");
    }
}
