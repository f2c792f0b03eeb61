//! Every decoder against bytes nobody meant: random ones, and good streams with damage. None may
//! panic, keep more than its bound, or see something else when the same bytes come in other
//! pieces. `UPROAR_FUZZ_SECONDS` sets how long each runs (default 2), `UPROAR_FUZZ_SEED` where it
//! begins; a failure prints the seed that repeats it at once.

mod common;

use common::{client_body, server_body};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::time::{Duration, Instant};
use uproar_proto::error::Code;
use uproar_proto::wire::opening::{OPENING_BYTES_MAX, Opening, http_refusal, open};
use uproar_proto::wire::proxy::{Proxied, parse};
use uproar_proto::wire::{
    ClientDecoder, Decoder, RawFrame, Variant, close_frame, decode_client, decode_server,
    encode_client, encode_server, ping_frame, upgrade_reply, upgrade_request,
};

/// SplitMix64: one seed, one world.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % (bound as u64).max(1)).unwrap()
    }

    fn bytes(&mut self, bytes_max: usize) -> Vec<u8> {
        let len = self.below(bytes_max + 1);
        (0..len).map(|_| (self.next() >> 32) as u8).collect()
    }

    /// Damages bytes in one to four places.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        const TELLING: [u8; 9] = [0, 1, 0x7d, 0x7e, 0x7f, 0x80, 0xc1, 0xfe, 0xff];
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            match self.below(6) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = TELLING[self.below(TELLING.len())],
                2 => bytes.truncate(at),
                3 => {
                    let noise = self.bytes(8);
                    bytes.splice(at..at, noise);
                }
                4 => {
                    let end = at + self.below(bytes.len() - at + 1);
                    bytes.drain(at..end);
                }
                _ => {
                    let end = at + self.below(bytes.len() - at + 1).min(64);
                    bytes.extend_from_within(at..end);
                }
            }
        }
    }

    /// Cuts at random: often small pieces, sometimes none.
    fn pieces<'a>(&mut self, bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let (mut rest, mut pieces) = (bytes, Vec::new());
        let size_max = [1, 3, 30, 1000, usize::MAX][self.below(5)];
        while !rest.is_empty() {
            let size = 1 + self.below(rest.len().min(size_max));
            let (piece, tail) = rest.split_at(size.min(rest.len()));
            pieces.push(piece);
            rest = tail;
        }
        pieces
    }
}

/// Runs `world` on one seed after another until the time is over.
fn fuzz(name: &str, world: impl Fn(&mut Rng) + std::panic::RefUnwindSafe) {
    let number = |key: &str| std::env::var(key).ok().and_then(|v| v.parse::<u64>().ok());
    let span = Duration::from_secs(number("UPROAR_FUZZ_SECONDS").unwrap_or(2));
    let first = number("UPROAR_FUZZ_SEED").unwrap_or(1);
    let (start, mut seed) = (Instant::now(), first);
    while seed == first || start.elapsed() < span {
        let outcome = std::panic::catch_unwind(|| world(&mut Rng(seed)));
        if let Err(panic) = outcome {
            eprintln!("{name}: repeat with UPROAR_FUZZ_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
        seed += 1;
    }
    println!("{name}: {} worlds", seed - first);
}

/// Frames of a strategy, drawn from our seed.
fn drawn<S: Strategy>(rng: &mut Rng, strategy: &S) -> S::Value {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&rng.next().to_le_bytes());
    let source = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), source);
    strategy.new_tree(&mut runner).expect("no filters").current()
}

const BYTES_MAX: usize = 2048;

/// A header of 14 bytes, and the one of the frame before it.
const SLACK: usize = 28;

#[test]
fn the_servers_decoder_in_every_variant() {
    let bodies = client_body();
    fuzz("Decoder", |rng| {
        let variant = Variant::ALL[rng.below(5)];
        let bytes = match rng.below(4) {
            0 => rng.bytes(600),
            good_or_damaged => {
                let mut bytes = Vec::new();
                for _ in 0..=rng.below(3) {
                    let mask = [(); 4].map(|()| (rng.next() >> 20) as u8);
                    encode_client(&drawn(rng, &bodies), variant, mask, &mut bytes);
                }
                if good_or_damaged > 1 {
                    rng.damage(&mut bytes);
                }
                bytes
            }
        };
        let mut outcomes = Vec::new();
        for pieces in [rng.pieces(&bytes), rng.pieces(&bytes)] {
            let mut decoder = Decoder::new(variant, BYTES_MAX);
            let mut seen = Vec::new();
            'feeding: for piece in pieces {
                decoder.feed(piece);
                assert!(decoder.bytes_used() <= BYTES_MAX + SLACK + piece.len());
                loop {
                    match decoder.next() {
                        Ok(Some(incoming)) => seen.push(Ok(incoming)),
                        Ok(None) => break,
                        Err(code) => {
                            seen.push(Err(code));
                            assert_eq!(decoder.bytes_used(), 0, "an ended decoder keeps nothing");
                            break 'feeding;
                        }
                    }
                }
                assert!(decoder.bytes_used() <= BYTES_MAX + SLACK);
                assert!(!decoder.is_idle() || decoder.bytes_used() == 0);
            }
            outcomes.push(seen);
        }
        assert_eq!(outcomes[0], outcomes[1], "pieces do not matter");
    });
}

#[test]
fn the_clients_decoder_in_every_variant() {
    let bodies = server_body();
    fuzz("ClientDecoder", |rng| {
        let variant = Variant::ALL[rng.below(5)];
        let bytes = match rng.below(4) {
            0 => rng.bytes(600),
            good_or_damaged => {
                let mut bytes = Vec::new();
                for _ in 0..=rng.below(3) {
                    encode_server(&drawn(rng, &bodies), variant, &mut bytes);
                    if variant.is_websocket() && rng.below(3) == 0 {
                        ping_frame(&rng.bytes(125), &mut bytes);
                    }
                }
                close_frame(variant, 1001, "bye", &mut bytes);
                if good_or_damaged > 1 {
                    rng.damage(&mut bytes);
                }
                bytes
            }
        };
        let mut outcomes = Vec::new();
        for pieces in [rng.pieces(&bytes), rng.pieces(&bytes)] {
            let mut decoder = ClientDecoder::new(variant, BYTES_MAX);
            let mut seen = Vec::new();
            'feeding: for piece in pieces {
                decoder.feed(piece);
                loop {
                    match decoder.next_raw() {
                        Ok(Some(RawFrame::Message { payload, compressed })) => {
                            assert!(payload.len() <= BYTES_MAX);
                            let body = decode_server(variant, payload, compressed, BYTES_MAX);
                            seen.push(Ok(format!("{body:?}")));
                        }
                        Ok(Some(control)) => seen.push(Ok(format!("{control:?}"))),
                        Ok(None) => break,
                        Err(code) => {
                            seen.push(Err(code));
                            break 'feeding;
                        }
                    }
                }
                assert!(decoder.bytes_used() <= BYTES_MAX + SLACK);
            }
            outcomes.push(seen);
        }
        assert_eq!(outcomes[0], outcomes[1], "pieces do not matter");
    });
}

#[test]
fn the_decoders_of_a_payload() {
    // Deeper than the streams get: the payload alone is damaged, the framing is not.
    let (clients, servers) = (client_body(), server_body());
    fuzz("payloads", |rng| {
        let variant = Variant::ALL[rng.below(5)];
        let mut bytes = Vec::new();
        let of_client = rng.below(2) == 0;
        if of_client {
            encode_client(&drawn(rng, &clients), variant, [0; 4], &mut bytes);
        } else {
            encode_server(&drawn(rng, &servers), variant, &mut bytes);
        }
        let header = if variant.is_websocket() { 2 + rng.below(5) } else { 1 };
        let compressed = variant.is_deflated() && rng.below(3) > 0;
        let mut payload = bytes.split_off(header.min(bytes.len()));
        rng.damage(&mut payload);
        let refused = if of_client {
            decode_client(variant, &payload, compressed, BYTES_MAX).err()
        } else {
            decode_server(variant, &payload, compressed, BYTES_MAX).err()
        };
        if let Some(code) = refused {
            assert!(matches!(
                code,
                Code::BadFrame | Code::BadUtf8 | Code::BadCompression | Code::FrameTooLarge
            ));
        }
    });
}

#[test]
fn the_opening() {
    fuzz("open", |rng| {
        let mut bytes = match rng.below(5) {
            0 => rng.bytes(100),
            1 => b"UPR1".to_vec(),
            2 => [b"GET ".to_vec(), rng.bytes(300)].concat(),
            _ => {
                let subprotocol =
                    [None, Some("uproar.v1.json"), Some("uproar.v1.proto, x")][rng.below(3)];
                upgrade_request("a:7400", "/", subprotocol, rng.below(2) == 0, [7; 16])
            }
        };
        if rng.below(4) > 0 {
            rng.damage(&mut bytes);
        }
        // What was decided stays decided however much follows.
        let mut decided: Option<Opening> = None;
        for end in 0..=bytes.len() {
            let now = open(&bytes[..end]);
            if let Opening::Tcp { consumed } | Opening::WebSocket { consumed, .. } = now {
                assert!(consumed <= end);
            }
            match &decided {
                Some(before) => assert_eq!(*before, now),
                None if now != Opening::NeedMore => decided = Some(now),
                None => {}
            }
        }
        bytes.resize(OPENING_BYTES_MAX, b'a');
        assert_ne!(open(&bytes), Opening::NeedMore, "decided at the bound");
    });
}

#[test]
fn the_proxy_header() {
    fuzz("proxy", |rng| {
        let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        bytes[13] = [0x11, 0x21, 0x31, 0][rng.below(4)];
        bytes[15] = [0, 11, 12, 36, 216][rng.below(5)];
        bytes.extend(rng.bytes(300));
        if rng.below(3) > 0 {
            rng.damage(&mut bytes);
        }
        let mut decided = Proxied::NeedMore;
        for end in 0..=bytes.len() {
            let now = parse(&bytes[..end]);
            if let Proxied::Header { consumed, .. } = now {
                assert!(consumed <= end);
            }
            assert!(decided == Proxied::NeedMore || decided == now);
            decided = now;
        }
        bytes.resize(5000, 0);
        assert_ne!(parse(&bytes), Proxied::NeedMore, "decided at the bound");
    });
}

#[test]
fn the_upgrade_reply() {
    let request = upgrade_request("a", "/", Some("uproar.v1.proto"), true, [7; 16]);
    let Opening::WebSocket { upgrade, .. } = open(&request) else { panic!("a good request") };
    fuzz("upgrade_reply", |rng| {
        let mut bytes = match rng.below(4) {
            0 => rng.bytes(300),
            1 => http_refusal(403, Code::OriginRefused),
            _ => upgrade.reply.clone(),
        };
        rng.damage(&mut bytes);
        let pieces = rng.pieces(&bytes);
        let mut end = 0;
        for piece in pieces {
            end += piece.len();
            if let Ok(Some((consumed, _))) = upgrade_reply(&bytes[..end], [7; 16]) {
                assert!(consumed <= end);
            }
        }
        bytes.resize(9000, b'a');
        assert_ne!(upgrade_reply(&bytes, [7; 16]), Ok(None), "decided at the bound");
    });
}
