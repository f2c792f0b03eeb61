//! How many connections one address may have at once: whoever opens thousands and says nothing
//! keeps nobody else away.
//!
//! Owns the count by address. IPv6 counts by /64, which is what one customer has. Proxies that are
//! trusted speak for many, and are not counted.

use crate::accounts::network;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use uproar_proto::control::{Sample, SampleKind, SampleValue};

/// See the module.
#[derive(Debug)]
pub struct Crowding {
    per_address_max: u32,
    trusted: Vec<IpAddr>,
    /// As many as there are connections at most: who has none is not in it.
    here: Mutex<HashMap<IpAddr, u32>>,
    refused: AtomicU64,
}

/// One connection's place: given back when it is dropped.
pub(super) struct Place {
    of: Arc<Crowding>,
    /// `None`: of a trusted proxy.
    address: Option<IpAddr>,
}

impl Crowding {
    pub(super) fn new(per_address_max: u32, trusted: &[IpAddr]) -> Arc<Crowding> {
        let (here, refused) = (Mutex::default(), AtomicU64::new(0));
        Arc::new(Crowding { per_address_max, trusted: trusted.to_vec(), here, refused })
    }

    /// A place for one more from there; `None`: it has as many as it may, which is counted.
    pub(super) fn enter(self: &Arc<Crowding>, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        if self.trusted.contains(&address) {
            return Some(Place { of: Arc::clone(self), address: None });
        }
        let address = network(address);
        let mut here = self.here();
        let count = here.entry(address).or_default();
        if *count >= self.per_address_max {
            self.refused.fetch_add(1, Relaxed);
            return None;
        }
        *count += 1;
        Some(Place { of: Arc::clone(self), address: Some(address) })
    }

    pub(super) fn samples(&self) -> Vec<Sample> {
        vec![Sample {
            name: "uproar_http_crowded_total",
            help: "HTTP connections closed at once: their address had as many as it may",
            kind: SampleKind::Counter,
            labels: Vec::new(),
            value: SampleValue::Number(self.refused.load(Relaxed) as f64),
        }]
    }

    fn here(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        // A count is whole at every moment.
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut here = self.of.here();
        if let Some(count) = here.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                here.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(crowding: &Arc<Crowding>, address: &str) -> Option<Place> {
        crowding.enter(address.parse().unwrap())
    }

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let crowding = Crowding::new(2, &["10.0.0.1".parse().unwrap()]);
        let places = ["192.0.2.1", "::ffff:192.0.2.1"].map(|from| enter(&crowding, from).unwrap());
        assert!(enter(&crowding, "192.0.2.1").is_none());
        let _other = enter(&crowding, "192.0.2.2").unwrap();
        let _proxy: Vec<Place> = (0..9).filter_map(|_| enter(&crowding, "10.0.0.1")).collect();
        assert_eq!((_proxy.len(), crowding.refused.load(Relaxed)), (9, 1));
        drop(places);
        enter(&crowding, "192.0.2.1").unwrap();
        assert_eq!(crowding.here().len(), 1, "who has none is not remembered");
    }

    #[test]
    fn whoever_has_one_address_of_a_64_has_all_of_them() {
        let crowding = Crowding::new(1, &[]);
        let _one = enter(&crowding, "2001:db8::1").unwrap();
        assert!(enter(&crowding, "2001:db8::ffff:1").is_none());
        enter(&crowding, "2001:db8:0:1::1").unwrap();
    }
}
