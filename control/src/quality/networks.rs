//! Which region and provider an address belongs to, by a table the operator brings.
//!
//! Owns the table and how it is read. It only fills in what a report does not say itself.

use super::report::TEXT_BYTES_MAX;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use uproar_proto::networks::{self, Network};

/// Lines of a table. More: it is refused.
const LINES_MAX: usize = 4_000_000;

/// Where an address is; a part may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) region: Arc<str>,
    pub(crate) isp: Arc<str>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Networks {
    /// By number of the place.
    table: networks::Networks<u32>,
    places: Vec<Place>,
}

impl Networks {
    /// Reads a table: lines of `NETWORK,REGION,ISP`, such as `203.0.113.0/24,shanghai,telecom`;
    /// empty lines and those that begin with `#` say nothing. Of two networks that hold an address
    /// the narrower one counts.
    ///
    /// # Errors
    /// The sentence to show: the file, the line, and what is wrong.
    pub(crate) fn read(path: &Path) -> Result<Networks, String> {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
        Networks::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn parse(text: &str) -> Result<Networks, String> {
        let mut numbers: BTreeMap<(&str, &str), u32> = BTreeMap::new();
        let mut networks = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let wrong = |what: &dyn fmt::Display| {
                format!("line {}: {what}; a line is NETWORK,REGION,ISP", at + 1)
            };
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            if networks.len() == LINES_MAX {
                return Err(wrong(&format_args!("there are more than {LINES_MAX} networks")));
            }
            let mut parts = line.split(',').map(str::trim);
            let (Some(network), Some(region), Some(isp), None) =
                (parts.next(), parts.next(), parts.next(), parts.next())
            else {
                return Err(wrong(&"it has not three parts"));
            };
            let network = Network::parse(network).ok_or_else(|| {
                wrong(&format_args!(
                    "{network:?} is no network such as 203.0.113.0/24 or 2001:db8::/32"
                ))
            })?;
            for text in [region, isp] {
                if text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
                    return Err(wrong(&format_args!(
                        "{text:?} is no name of at most {TEXT_BYTES_MAX} bytes"
                    )));
                }
            }
            let next = numbers.len() as u32;
            let place = *numbers.entry((region, isp)).or_insert(next);
            networks.push((network, place));
        }
        let mut places = vec![Place::default(); numbers.len()];
        for ((region, isp), number) in numbers {
            places[number as usize] = Place { region: region.into(), isp: isp.into() };
        }
        // Of two networks the narrower one counts.
        let table = networks::Networks::new(networks, |_, own| own);
        Ok(Networks { table, places })
    }

    /// Where an address is, if the table says so.
    pub(crate) fn place(&self, address: IpAddr) -> Option<&Place> {
        self.places.get(self.table.get(address)? as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: &str = "# made up\n\n203.0.113.0/24, shanghai ,telecom\n203.0.113.128/25,shanghai,\
        unicom\n203.0.113.200,,mobile\n2001:db8::/32,beijing,telecom\n0.0.0.0/0,china,\n";

    fn place(networks: &Networks, address: &str) -> Option<(String, String)> {
        let place = networks.place(address.parse().unwrap())?;
        Some((place.region.to_string(), place.isp.to_string()))
    }

    #[test]
    fn the_narrowest_network_says_where_an_address_is() {
        let networks = Networks::parse(TABLE).unwrap();
        for (address, region, isp) in [
            ("203.0.113.1", "shanghai", "telecom"),
            ("203.0.113.128", "shanghai", "unicom"),
            ("203.0.113.199", "shanghai", "unicom"),
            ("203.0.113.200", "", "mobile"),
            ("203.0.113.201", "shanghai", "unicom"),
            ("203.0.114.0", "china", ""),
            ("::ffff:203.0.113.1", "shanghai", "telecom"),
            ("2001:db8:1::1", "beijing", "telecom"),
        ] {
            let found = place(&networks, address);
            assert_eq!(found, Some((region.to_owned(), isp.to_owned())), "{address}");
        }
        assert_eq!(place(&networks, "2001:db9::"), None);
        assert_eq!(place(&Networks::default(), "203.0.113.1"), None);
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (line, what) in [
            ("203.0.113.0/33,a,b", "203.0.113.0/33"),
            ("203.0.113,a,b", "is no network"),
            ("203.0.113.0/24,a", "three parts"),
            ("203.0.113.0/24,a,b,c", "three parts"),
        ] {
            let error = Networks::parse(&format!("# one\n{line}\n")).unwrap_err();
            assert!(error.starts_with("line 2: ") && error.contains(what), "{error}");
        }
        let long = format!("203.0.113.0/24,{},b", "x".repeat(TEXT_BYTES_MAX + 1));
        assert!(Networks::parse(&long).unwrap_err().contains("no name"));
        assert!(Networks::read(Path::new("/nowhere/at.all")).unwrap_err().contains("/nowhere"));
    }

    proptest! {
        /// As looking at every network for each address would say.
        #[test]
        fn it_is_as_if_all_were_looked_at(
            networks in proptest::collection::vec((0_u32..64, 26_u32..=32), 0..20),
            address in 0_u32..64,
        ) {
            let text: String = networks.iter().enumerate().map(|(number, (address, bits))| {
                format!("{}/{bits},r{number},\n", std::net::Ipv4Addr::from(*address))
            }).collect();
            let table = Networks::parse(&text).unwrap();
            let holds = |(network, bits): &(u32, u32)| {
                let rest = u32::MAX.checked_shr(*bits).unwrap_or(0);
                network & !rest == address & !rest
            };
            let widest = networks.iter().enumerate().filter(|(_, n)| holds(n));
            let expected = widest.max_by_key(|(number, (_, bits))| (*bits, *number));
            let found = table.place(IpAddr::from(std::net::Ipv4Addr::from(address)));
            let expected = expected.map(|(number, _)| format!("r{number}"));
            prop_assert_eq!(found.map(|place| place.region.to_string()), expected);
        }
    }
}
