//! Networks of addresses, and what is said of each: written as CIDR, looked up by address.
//!
//! Owns how a network is read and the table of intervals that a look-up searches. What is said of a
//! network, whoever makes the table knows. IPv4 stands in it as IPv6 writes it, `::ffff:a.b.c.d`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network: its first address and how many leading bits are fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    first: u128,
    /// 0 to 128: of networks that begin alike, the wider one is first.
    bits: u32,
}

/// Bits of IPv6 that stand before an IPv4 address.
const V4_BEFORE: u32 = 96;

impl Network {
    /// Reads `ADDRESS/BITS`; without `/BITS`, one address. Bits beyond are taken as 0.
    #[must_use]
    pub fn parse(text: &str) -> Option<Network> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let (width, before) = if address.is_ipv4() { (32, V4_BEFORE) } else { (128, 0) };
        let bits = bits.unwrap_or(width);
        (bits <= width).then(|| Network::around(address, before + bits))
    }

    /// The network of so many leading bits, of 128, around an address.
    fn around(address: IpAddr, bits: u32) -> Network {
        let rest = u128::MAX.checked_shr(bits).unwrap_or(0);
        Network { first: number_of(address) & !rest, bits }
    }

    /// Whether it lies within IPv4.
    #[must_use]
    pub fn is_v4(self) -> bool {
        self.bits >= V4_BEFORE && self.first >> 32 == 0xffff
    }

    /// Its fixed bits, of the 32 or 128 of its kind.
    #[must_use]
    pub fn bits(self) -> u32 {
        if self.is_v4() { self.bits - V4_BEFORE } else { self.bits }
    }

    /// The wider one around it, with so many fixed bits of its kind; itself, where it is wider.
    #[must_use]
    pub fn widened(self, bits: u32) -> Network {
        let bits = if self.is_v4() { bits + V4_BEFORE } else { bits };
        if bits >= self.bits {
            return self;
        }
        Network::around(IpAddr::V6(Ipv6Addr::from(self.first)), bits)
    }

    /// Whether it is one of IPv6 in which all of IPv4 lies, as `::ffff:a.b.c.d`.
    #[must_use]
    pub fn holds_v4(self) -> bool {
        let first = number_of(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        !self.is_v4() && self.first <= first && first <= self.last()
    }

    fn last(self) -> u128 {
        self.first | u128::MAX.checked_shr(self.bits).unwrap_or(0)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_v4() {
            true => write!(f, "{}/{}", Ipv4Addr::from(self.first as u32), self.bits()),
            false => write!(f, "{}/{}", Ipv6Addr::from(self.first), self.bits),
        }
    }
}

fn number_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// What is said of each address: one binary search a look-up.
#[derive(Clone, Debug)]
pub struct Networks<T> {
    /// From which address on what holds, ascending; `None`: in no network.
    begins: Vec<(u128, Option<T>)>,
}

impl<T> Default for Networks<T> {
    fn default() -> Networks<T> {
        Networks { begins: Vec::new() }
    }
}

impl<T: Copy + PartialEq + Ord> Networks<T> {
    /// Of these networks, which either hold one another or have nothing in common. `within` tells
    /// what holds in a network that lies in another one, from what is said of the outer and of
    /// itself.
    #[must_use]
    pub fn new(mut networks: Vec<(Network, T)>, within: impl Fn(T, T) -> T) -> Networks<T> {
        networks.sort_unstable();
        let mut begins: Vec<(u128, Option<T>)> = Vec::new();
        let mut around: Vec<(Network, T)> = Vec::new();
        let mut begin = |at: u128, of: Option<T>| match begins.last_mut() {
            Some((last, said)) if *last == at => *said = of,
            Some((_, said)) if *said == of => {}
            _ => begins.push((at, of)),
        };
        let end = |around: &mut Vec<(Network, T)>, begin: &mut dyn FnMut(u128, Option<T>)| {
            if let Some((ended, _)) = around.pop()
                && let Some(next) = ended.last().checked_add(1)
            {
                begin(next, around.last().map(|(_, of)| *of));
            }
        };
        for (network, own) in networks {
            while around.last().is_some_and(|(outer, _)| outer.last() < network.first) {
                end(&mut around, &mut begin);
            }
            let of = around.last().map_or(own, |(_, outer)| within(*outer, own));
            begin(network.first, Some(of));
            around.push((network, of));
        }
        while !around.is_empty() {
            end(&mut around, &mut begin);
        }
        Networks { begins }
    }

    /// What is said of an address.
    #[must_use]
    pub fn get(&self, address: IpAddr) -> Option<T> {
        let address = number_of(address);
        let after = self.begins.partition_point(|(first, _)| *first <= address);
        self.begins.get(after.checked_sub(1)?)?.1
    }

    /// Whether nothing is said of any address.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.begins.is_empty()
    }

    /// Bytes of the table.
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        self.begins.capacity() * size_of::<(u128, Option<T>)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_network_is_shown_as_it_is_kept() {
        for (text, shown) in [
            ("203.0.113.9", "203.0.113.9/32"),
            ("203.0.113.9/24", "203.0.113.0/24"),
            ("2001:DB8::1", "2001:db8::1/128"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("::ffff:203.0.113.9", "203.0.113.9/32"),
            ("::/0", "::/0"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(Network::parse(text).map(|n| n.to_string()).as_deref(), Some(shown));
        }
        for bad in ["", "203.0.113", "203.0.113.0/33", "2001:db8::/129", "a/b", "::1/-1"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
        let widened = |text| Network::parse(text).unwrap().widened(64).to_string();
        assert_eq!(widened("2001:db8::1:2:3:4"), "2001:db8::/64");
        assert_eq!(widened("2001:db8::/32"), "2001:db8::/32");
        assert_eq!(
            Network::parse("203.0.113.9").unwrap().widened(24).to_string(),
            "203.0.113.0/24"
        );
    }

    proptest! {
        /// As looking at every network for each address would say.
        #[test]
        fn it_is_as_if_all_were_looked_at(
            networks in proptest::collection::vec((0_u32..64, 26_u32..=32, 0_u64..9), 0..20),
            address in 0_u32..64,
        ) {
            let of = |(address, bits, said): &(u32, u32, u64)| {
                let text = format!("{}/{bits}", Ipv4Addr::from(*address));
                (Network::parse(&text).unwrap(), *said)
            };
            let table = Networks::new(networks.iter().map(of).collect(), |a, b| a.max(b));
            let holds = |(network, bits, _): &&(u32, u32, u64)| {
                let rest = u32::MAX.checked_shr(*bits).unwrap_or(0);
                network & !rest == address & !rest
            };
            let expected = networks.iter().filter(holds).map(|(.., said)| *said).max();
            prop_assert_eq!(table.get(IpAddr::from(Ipv4Addr::from(address))), expected);
        }
    }
}
