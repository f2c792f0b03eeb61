//! How many connections and handshakes each source address has on this shard, and their bounds.
//! Off (and free of memory) where the configuration sets no bound.

use super::slab::{NONE, Slab};
use crate::Map;
use crate::hash::Seeded;
use crate::seam::Tick;
use std::net::IpAddr;

struct Address {
    /// `None`: the count that addresses share once the table is full.
    ip: Option<IpAddr>,
    connections: u32,
    second: u32,
    handshakes: u32,
}

/// The table.
pub struct Addresses {
    by_ip: Map<IpAddr, u32>,
    slab: Slab<Address>,
    connections_max: u32,
    handshakes_max: u32,
    addresses_max: usize,
    shared: u32,
    /// The second in which idle addresses were last forgotten.
    pruned: u32,
}

impl Addresses {
    /// Bounds of 0 are off.
    #[must_use]
    pub fn new(config: &crate::config::Config, seed: u64) -> Addresses {
        Addresses {
            by_ip: Map::with_hasher(Seeded(seed)),
            slab: Slab::default(),
            connections_max: config.connections_per_address_max,
            handshakes_max: config.handshakes_per_address_per_s,
            addresses_max: config.addresses_max as usize,
            shared: NONE,
            pruned: 0,
        }
    }

    /// Counts a connection of an address: its number for [`Addresses::leave`].
    ///
    /// # Errors
    /// The same number, where a bound is passed: the connection is counted all the same until it
    /// is gone, so that refused ones cannot pile up uncounted.
    pub fn enter(&mut self, ip: IpAddr, now: Tick) -> Result<u32, u32> {
        if self.connections_max == 0 && self.handshakes_max == 0 {
            return Ok(NONE);
        }
        let second = (now.0 / 1_000_000) as u32;
        self.forget_idle(second);
        let number = match self.by_ip.get(&ip) {
            Some(number) => *number,
            None if self.by_ip.len() < self.addresses_max => {
                let number = self.slab.insert(Address::new(Some(ip)));
                self.by_ip.insert(ip, number);
                number
            }
            None => {
                if self.shared == NONE {
                    self.shared = self.slab.insert(Address::new(None));
                }
                self.shared
            }
        };
        let address = self.slab.get_mut(number);
        if address.second != second {
            (address.second, address.handshakes) = (second, 0);
        }
        address.connections += 1;
        address.handshakes += 1;
        let over = |count: u32, max: u32| max > 0 && count > max;
        if over(address.connections, self.connections_max)
            || over(address.handshakes, self.handshakes_max)
        {
            return Err(number);
        }
        Ok(number)
    }

    /// Forgets, once a second, addresses without a connection whose handshakes no longer count.
    fn forget_idle(&mut self, second: u32) {
        if second == self.pruned {
            return;
        }
        self.pruned = second;
        let idle = |a: &Address| a.connections == 0 && a.second != second;
        let gone: Vec<u32> =
            self.slab.iter().filter(|(_, a)| idle(a)).map(|(number, _)| number).collect();
        for number in gone {
            self.forget(number);
        }
    }

    fn forget(&mut self, number: u32) {
        match self.slab.remove(number).ip {
            Some(ip) => {
                self.by_ip.remove(&ip);
            }
            None => self.shared = NONE,
        }
    }

    /// One connection less. The address is forgotten with its last one, or within the next second
    /// where its handshakes are counted.
    pub fn leave(&mut self, number: u32) {
        let address = self.slab.get_mut(number);
        address.connections -= 1;
        if address.connections == 0 && self.handshakes_max == 0 {
            self.forget(number);
        }
    }

    /// Bytes of the table.
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        self.slab.bytes_used() + self.by_ip.capacity() * size_of::<(IpAddr, u32)>()
    }
}

impl Address {
    fn new(ip: Option<IpAddr>) -> Address {
        Address { ip, connections: 0, second: 0, handshakes: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    #[test]
    fn an_address_over_its_bound_is_refused_until_one_leaves() {
        let config = Config { connections_per_address_max: 2, ..Config::default() };
        let mut addresses = Addresses::new(&config, 1);
        let first = addresses.enter(ip(1), Tick(0)).expect("below the bound");
        addresses.enter(ip(1), Tick(0)).expect("at the bound");
        let refused = addresses.enter(ip(1), Tick(0)).expect_err("over the bound");
        assert!(addresses.enter(ip(2), Tick(0)).is_ok(), "another address is not concerned");
        addresses.leave(refused);
        addresses.leave(first);
        assert!(addresses.enter(ip(1), Tick(0)).is_ok());
    }

    #[test]
    fn handshakes_count_though_each_connection_has_gone() {
        let config = Config { handshakes_per_address_per_s: 2, ..Config::default() };
        let mut addresses = Addresses::new(&config, 1);
        for _ in 0..2 {
            let number = addresses.enter(ip(1), Tick(0)).expect("within the bound");
            addresses.leave(number);
        }
        let refused = addresses.enter(ip(1), Tick(0)).expect_err("the third");
        addresses.leave(refused);
        assert!(addresses.enter(ip(2), Tick(1_000_000)).is_ok());
        assert_eq!(addresses.by_ip.len(), 1, "the idle one was forgotten");
    }

    #[test]
    fn a_full_table_makes_new_addresses_share_one_count() {
        let config =
            Config { handshakes_per_address_per_s: 2, addresses_max: 1, ..Config::default() };
        let mut addresses = Addresses::new(&config, 1);
        assert!(addresses.enter(ip(1), Tick(0)).is_ok());
        assert!(addresses.enter(ip(2), Tick(0)).is_ok());
        assert!(addresses.enter(ip(3), Tick(0)).is_ok());
        assert!(addresses.enter(ip(4), Tick(0)).is_err(), "2 and 3 used the shared count up");
        assert!(addresses.enter(ip(5), Tick(1_000_000)).is_ok(), "the next second is fresh");
    }
}
