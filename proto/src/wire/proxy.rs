//! PROXY protocol version 2: the header a trusted proxy puts before a connection's own bytes.
//!
//! Owns reading it. Who is trusted is the engine's to say; version 1 (text) is not read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a connection of a trusted proxy begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxied {
    /// More bytes are needed.
    NeedMore,
    /// A header.
    Header {
        /// Its length: the connection's own bytes begin here.
        consumed: usize,
        /// Who the proxy speaks for; `None` where it speaks for itself (a health check) or for
        /// a family that is not IP.
        source: Option<IpAddr>,
    },
    /// Not such a header: the answer is `BAD_PROXY_HEADER`.
    Bad,
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Addresses take 216 bytes at most; the rest is for TLVs. A longer header is refused.
const HEADER_BYTES_MAX: usize = 4096;

/// Reads the header at the beginning of a connection.
#[must_use]
pub fn parse(input: &[u8]) -> Proxied {
    // W-30
    let head = &input[..input.len().min(SIGNATURE.len())];
    if !SIGNATURE.starts_with(head) {
        return Proxied::Bad;
    }
    let Some(&[version_command, family, high, low]) =
        input.get(12..16).and_then(|b| b.first_chunk::<4>())
    else {
        return Proxied::NeedMore;
    };
    let proxied = match version_command {
        0x20 => false,
        0x21 => true,
        _ => return Proxied::Bad,
    };
    let consumed = 16 + usize::from(u16::from_be_bytes([high, low]));
    if consumed > HEADER_BYTES_MAX {
        return Proxied::Bad;
    }
    let Some(addresses) = input.get(16..consumed) else { return Proxied::NeedMore };
    let source = match (proxied, family >> 4) {
        (true, 1) if addresses.len() < 12 => return Proxied::Bad,
        (true, 2) if addresses.len() < 36 => return Proxied::Bad,
        (true, 1) => addresses.first_chunk::<4>().map(|b| IpAddr::V4(Ipv4Addr::from(*b))),
        (true, 2) => {
            addresses.first_chunk::<16>().map(|b| IpAddr::V6(Ipv6Addr::from(*b)).to_canonical())
        }
        _ => None,
    };
    Proxied::Header { consumed, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version_command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[version_command, family], &length, addresses].concat()
    }

    #[test]
    fn a_source_is_read_at_every_split_point() {
        // W-30
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0x1c, 0xe8];
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        let with_tlv = [&v4[..], &[0x04, 0, 2, 9, 9]].concat();
        for (family, addresses, source) in [
            (0x11, &v4[..], "192.0.2.7"),
            (0x11, &with_tlv, "192.0.2.7"),
            (0x21, &v6, "2001:db8::7"),
        ] {
            let mut bytes = header(0x21, family, addresses);
            let consumed = bytes.len();
            for cut in 0..consumed {
                assert_eq!(parse(&bytes[..cut]), Proxied::NeedMore, "cut at {cut}");
            }
            bytes.extend_from_slice(b"UPR1");
            let source = Some(source.parse().unwrap());
            assert_eq!(parse(&bytes), Proxied::Header { consumed, source });
        }
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address_it_maps() {
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&"::ffff:192.0.2.7".parse::<Ipv6Addr>().unwrap().octets());
        let source = Some("192.0.2.7".parse().unwrap());
        assert_eq!(parse(&header(0x21, 0x21, &v6)), Proxied::Header { consumed: 52, source });
    }

    #[test]
    fn a_proxy_that_speaks_for_itself_or_for_no_ip_names_no_source() {
        for bytes in [header(0x20, 0x11, &[1; 12]), header(0x20, 0, &[]), header(0x21, 0, &[])] {
            assert_eq!(parse(&bytes), Proxied::Header { consumed: bytes.len(), source: None });
        }
        let unix = header(0x21, 0x31, &[b'x'; 216]);
        assert_eq!(parse(&unix), Proxied::Header { consumed: 232, source: None });
    }

    #[test]
    fn what_is_no_header_is_bad_at_its_first_wrong_byte() {
        for bytes in [
            b"UPR1".to_vec(),
            b"PROXY TCP4 192.0.2.7".to_vec(),
            header(0x11, 0x11, &[1; 12]),
            header(0x22, 0x11, &[1; 12]),
            header(0x21, 0x11, &[1; 11]),
            header(0x21, 0x21, &[1; 35]),
            header(0x21, 0x31, &[1; 4081]),
        ] {
            assert_eq!(parse(&bytes), Proxied::Bad, "{bytes:02x?}");
        }
    }
}
