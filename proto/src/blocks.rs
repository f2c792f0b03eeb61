//! Devices and networks that the platform keeps out: the list as it is kept and told, and the form
//! in which it is looked up.
//!
//! Owns what a good entry is and its bounds. Who is asked about, and what becomes of who is on the
//! list, others say. (That one user blocks another is a relationship, and has nothing to do with
//! this.) A device's name is its client's own choice: to block one is a fence, no wall.

use crate::networks::{Network, Networks};
use std::net::IpAddr;

/// The longest name of a device, bytes: longer ones are refused in `connect`.
pub const DEVICE_BYTES_MAX: usize = 64;

/// The narrowest IPv6 network: whoever has one address of a /64 has all of them.
pub const V6_BITS_MAX: u32 = 64;

/// The widest networks that can be blocked, IPv4 and IPv6: wider ones are taken for a slip.
const V4_BITS_MIN: u32 = 8;
const V6_BITS_MIN: u32 = 16;

/// What an entry names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockKind {
    /// A device, by the name its client gives.
    Device,
    /// A network of addresses.
    Address,
}

impl BlockKind {
    /// In the interface and in metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            BlockKind::Device => "device",
            BlockKind::Address => "address",
        }
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    pub kind: BlockKind,
    /// A device's name, or a network as [`Network`] shows it.
    pub value: String,
    /// Until when, seconds since 1970; 0: for ever.
    pub until_s: u64,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockList {
    /// Counts the changes of the list; 0: there never was an entry.
    pub version: u64,
    pub blocks: Vec<Block>,
}

/// The value of an entry as it is kept.
///
/// # Errors
/// What is wrong with it and what is allowed.
pub fn value_of(kind: BlockKind, value: &str) -> Result<String, String> {
    if kind == BlockKind::Device {
        let bytes = value.len();
        return match bytes {
            1..=DEVICE_BYTES_MAX => Ok(value.to_owned()),
            _ => Err(format!("a device's name has 1 to {DEVICE_BYTES_MAX} bytes, not {bytes}")),
        };
    }
    let network = Network::parse(value).ok_or_else(|| {
        let shown: String = value.chars().take(80).collect();
        format!("{shown:?} is no address or network such as 203.0.113.0/24 or 2001:db8::/48")
    })?;
    if network.is_v4() {
        return match network.bits() {
            V4_BITS_MIN.. => Ok(network.to_string()),
            bits => Err(format!("{network} has {bits} bits; allowed is /{V4_BITS_MIN} to /32")),
        };
    }
    // One address stands for the network that its owner can choose from.
    let network = if value.contains('/') { network } else { network.widened(V6_BITS_MAX) };
    match network.bits() {
        V6_BITS_MIN..=V6_BITS_MAX if network.holds_v4() => Err(format!(
            "{network} holds every IPv4 address (as ::ffff:a.b.c.d); name those as a.b.c.d/BITS"
        )),
        V6_BITS_MIN..=V6_BITS_MAX => Ok(network.to_string()),
        bits => Err(format!(
            "{network} has {bits} bits; allowed is /{V6_BITS_MIN} to /{V6_BITS_MAX}, for whoever \
             has one address of a /64 has all of them"
        )),
    }
}

/// A list in the form it is looked up in: `D` is how whoever looks names a device.
#[derive(Clone, Debug)]
pub struct Blocked<D> {
    /// Ascending by device; until when, `u64::MAX` for ever.
    devices: Vec<(D, u64)>,
    networks: Networks<u64>,
}

impl<D> Default for Blocked<D> {
    fn default() -> Blocked<D> {
        Blocked { devices: Vec::new(), networks: Networks::default() }
    }
}

impl<D: Ord> Blocked<D> {
    /// Of a list; an address that is no network is left out: it was checked where it came in.
    #[must_use]
    pub fn new(list: &BlockList, device: impl Fn(&str) -> D) -> Blocked<D> {
        let until = |block: &Block| if block.until_s == 0 { u64::MAX } else { block.until_s };
        let of = |kind| list.blocks.iter().filter(move |block| block.kind == kind);
        let devices = of(BlockKind::Device).map(|block| (device(&block.value), until(block)));
        let mut devices: Vec<(D, u64)> = devices.collect();
        devices.sort_unstable();
        let networks = of(BlockKind::Address);
        let networks =
            networks.filter_map(|block| Some((Network::parse(&block.value)?, until(block))));
        // In a network within another one, both hold: the one that lasts longer counts.
        let networks = Networks::new(networks.collect(), |outer, own| outer.max(own));
        Blocked { devices, networks }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty() && self.networks.is_empty()
    }

    /// Which entry keeps this device or this address out at a time in seconds since 1970.
    #[must_use]
    pub fn find(
        &self,
        device: Option<&D>,
        address: Option<IpAddr>,
        now_s: u64,
    ) -> Option<BlockKind> {
        self.find_until(device, address, now_s).map(|(kind, _)| kind)
    }

    /// The same, and until when, in seconds since 1970; `u64::MAX`: for ever.
    #[must_use]
    pub fn find_until(
        &self,
        device: Option<&D>,
        address: Option<IpAddr>,
        now_s: u64,
    ) -> Option<(BlockKind, u64)> {
        let until = device.and_then(|device| {
            let found = self.devices.binary_search_by(|(known, _)| known.cmp(device)).ok()?;
            Some(self.devices[found].1)
        });
        if let Some(until) = until.filter(|until| *until > now_s) {
            return Some((BlockKind::Device, until));
        }
        let until = address.and_then(|address| self.networks.get(address));
        let until = until.filter(|until| *until > now_s)?;
        Some((BlockKind::Address, until))
    }

    /// Bytes of the tables, what devices own beside them apart.
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        self.devices.capacity() * size_of::<(D, u64)>() + self.networks.bytes_used()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(kind: BlockKind, value: &str, until_s: u64) -> Block {
        Block { kind, value: value.into(), until_s }
    }

    #[test]
    fn an_entry_is_kept_in_one_form_and_a_bad_one_says_why() {
        let address = |value| value_of(BlockKind::Address, value);
        assert_eq!(address("203.0.113.9").unwrap(), "203.0.113.9/32");
        assert_eq!(address("203.0.113.9/24").unwrap(), "203.0.113.0/24");
        assert_eq!(address("2001:db8::1").unwrap(), "2001:db8::/64");
        for all_of_v4 in ["::1", "::", "::/64", "::/16", "::203.0.113.9"] {
            let refused = address(all_of_v4).unwrap_err();
            assert!(refused.contains("every IPv4"), "{all_of_v4}: {refused}");
        }
        assert_eq!(address("::ffff:203.0.113.9").unwrap(), "203.0.113.9/32");
        for (value, told) in [
            ("here", "is no address or network"),
            ("0.0.0.0/0", "allowed is /8 to /32"),
            ("2001:db8::1/128", "allowed is /16 to /64"),
            ("::/0", "allowed is /16 to /64"),
        ] {
            assert!(address(value).unwrap_err().contains(told), "{value}");
        }
        let device = |value: &str| value_of(BlockKind::Device, value);
        assert_eq!(device("phone-7").unwrap(), "phone-7");
        assert!(device("").is_err() && device(&"x".repeat(65)).is_err());
    }

    #[test]
    fn who_is_on_the_list_is_found_until_its_time_is_over() {
        use BlockKind::{Address, Device};
        let blocks = vec![
            block(Device, "phone", 0),
            block(Device, "tablet", 100),
            block(Address, "203.0.113.0/24", 100),
            block(Address, "203.0.113.7/32", 50),
            block(Address, "2001:db8::/48", 0),
        ];
        let blocked = Blocked::new(&BlockList { version: 1, blocks }, str::to_owned);
        let find = |device: &str, address: &str, now_s| {
            let device = (!device.is_empty()).then(|| device.to_owned());
            blocked.find(device.as_ref(), address.parse().ok(), now_s)
        };
        assert_eq!(find("phone", "", 1 << 40), Some(Device));
        assert_eq!((find("tablet", "", 99), find("tablet", "", 100)), (Some(Device), None));
        assert_eq!(find("other", "203.0.113.7", 60), Some(Address), "the wider one lasts longer");
        let lasting = blocked.find_until(None, "203.0.113.7".parse().ok(), 1);
        assert_eq!(lasting, Some((Address, 100)));
        assert_eq!(blocked.find_until(Some(&"phone".into()), None, 1), Some((Device, u64::MAX)));
        assert_eq!((find("", "203.0.113.7", 100), find("", "203.0.112.7", 1)), (None, None));
        assert_eq!(find("", "2001:db8:0:9::1", 1 << 40), Some(Address));
        assert_eq!(find("", "2001:db9::1", 1), None);
        assert_eq!(Blocked::<u64>::default().find(Some(&1), None, 1), None);
    }
}
