//! Where a connection comes from: its address and its device, as far as they are known.
//!
//! Owns the form in which a connection keeps both, 17 bytes: of an IPv6 address the /64, since its
//! owner chooses the rest; of a device a hash. And the keys that stand for them in tables of bans.

use super::connections::Cold;
use crate::hash::{hash_bytes, mix};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is known of a connection's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    /// Nothing: it waits for its PROXY header, or that named nobody.
    #[default]
    Unknown,
    V4,
    V6,
}

const DEVICE_SALT: u64 = 0xd3_71ce;
const ADDRESS_SALT: u64 = 0xadd_2e55;

/// Names a device in every table; never 0.
#[must_use]
pub fn device_key(seed: u64, device: &str) -> u64 {
    hash_bytes(mix(seed ^ DEVICE_SALT), device.as_bytes()) | 1
}

impl Cold {
    /// Its address is known now.
    pub fn set_address(&mut self, address: IpAddr) {
        (self.family, self.network) = match address.to_canonical() {
            IpAddr::V4(v4) => (Family::V4, u64::from(u32::from(v4))),
            IpAddr::V6(v6) => (Family::V6, (u128::from(v6) >> 64) as u64),
        };
    }

    /// Its address; of an IPv6 one the first of its /64.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match self.family {
            Family::Unknown => None,
            Family::V4 => Some(Ipv4Addr::from(self.network as u32).into()),
            Family::V6 => Some(Ipv6Addr::from(u128::from(self.network) << 64).into()),
        }
    }

    /// What stands for its device in tables of bans, where it gave one.
    #[must_use]
    pub fn device_key(&self) -> Option<u64> {
        (self.device != 0).then_some(self.device)
    }

    /// What stands for its address there, where that is known.
    #[must_use]
    pub fn address_key(&self, seed: u64) -> Option<u64> {
        let bytes = self.network.to_le_bytes();
        let seed = mix(seed ^ ADDRESS_SALT ^ self.family as u64);
        (self.family != Family::Unknown).then(|| hash_bytes(seed, &bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::{ConnSlot, Tick};
    use crate::shard::connections::{Connections, State};

    #[test]
    fn an_address_is_kept_as_far_as_its_owner_cannot_choose_it() {
        let mut conns = Connections::default();
        conns.open(ConnSlot(0), State::Opening, Tick(0));
        let cold = conns.cold_mut(ConnSlot(0));
        assert_eq!((cold.address(), cold.address_key(1), cold.device_key()), (None, None, None));
        let mut of = |text: &str| {
            cold.set_address(text.parse().unwrap());
            (cold.address().unwrap().to_string(), cold.address_key(1))
        };
        let (v4, v6) = (of("203.0.113.9"), of("2001:db8::9:1"));
        assert_eq!((v4.0.as_str(), v6.0.as_str()), ("203.0.113.9", "2001:db8::"));
        assert_eq!(of("::ffff:203.0.113.9"), v4);
        assert_eq!(of("2001:db8::7").1, v6.1, "of one /64");
        assert_ne!(of("2001:db8:0:1::7").1, v6.1);
        assert_ne!(of("::cb00:7109").1, of("203.0.113.9").1, "the numbers alone are no name");
        assert_ne!(device_key(1, "phone"), device_key(2, "phone"));
    }
}
