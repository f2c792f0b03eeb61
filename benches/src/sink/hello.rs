//! What a viewer says first: the opening bytes of each wire variant, with a token of its own where
//! viewers sign in. Owns their bytes; what comes back is read in `read`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BufMut;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use prost::Message;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};
use uproar_proto::token::Claims;
use uproar_proto::v1::{ClientFrame, Connect, Join, client_frame::Body};

/// How a viewer introduces itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Hello {
    /// It does not: the server only accepts.
    None,
    /// Some bytes, as many as a hello has; any answer lets it in: the bare server.
    Echo,
    /// Binary TCP: `UPR1`, then connect and join in one frame.
    Tcp,
    /// WebSocket with the binary subprotocol: the upgrade, and the frame once it is answered.
    Ws,
}

/// Makes the opening bytes of each viewer.
pub struct Opening {
    hello: Hello,
    room: String,
    key: Option<(Algorithm, EncodingKey)>,
    expires_unix_s: u64,
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opening").field("hello", &self.hello).finish_non_exhaustive() // no key
    }
}

/// A connect with an HS256 token and one join.
const ECHO_BYTES: usize = 190;
/// Long enough for every bench.
const TOKEN_LIFE_S: u64 = 6 * 3600;

impl Opening {
    /// `sign_in` is `hs256:BASE64` or `eddsa`; `None` for guests.
    ///
    /// # Errors
    /// A key that cannot be read.
    pub fn new(hello: Hello, room: &str, sign_in: Option<&str>) -> io::Result<Opening> {
        let key = sign_in.map(read_key).transpose()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
        let expires_unix_s = now.as_secs() + TOKEN_LIFE_S;
        Ok(Opening { hello, room: room.to_owned(), key, expires_unix_s })
    }

    /// How it introduces itself.
    #[must_use]
    pub fn hello(&self) -> Hello {
        self.hello
    }

    /// A token for `user` that may publish chat and likes; empty for a guest.
    ///
    /// # Errors
    /// The key does not fit its algorithm.
    pub fn token(&self, user: &str) -> io::Result<String> {
        let Some((algorithm, key)) = &self.key else { return Ok(String::new()) };
        let claims = Claims { sub: user.to_owned(), exp: self.expires_unix_s, ..Claims::default() };
        jsonwebtoken::encode(&Header::new(*algorithm), &claims, key).map_err(io::Error::other)
    }

    /// What viewer number `viewer` says first.
    ///
    /// # Errors
    /// As [`Opening::token`].
    pub fn words(&self, viewer: u64) -> io::Result<Words> {
        match self.hello {
            Hello::None => return Ok(Words::default()),
            Hello::Echo => {
                return Ok(Words { first: vec![b'u'; ECHO_BYTES], upgraded: Vec::new() });
            }
            Hello::Tcp | Hello::Ws => {}
        }
        let frame = connect_frame(self.token(&format!("viewer-{viewer}"))?, &self.room);
        if self.hello == Hello::Ws {
            let upgraded = ws_binary(&frame.encode_to_vec());
            return Ok(Words { first: UPGRADE.as_bytes().to_vec(), upgraded });
        }
        Ok(Words { first: tcp_opening(&frame), upgraded: Vec::new() })
    }
}

/// What a viewer says, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// At once; empty where it says nothing.
    pub first: Vec<u8>,
    /// Once the upgrade is answered; empty on binary TCP.
    pub upgraded: Vec<u8>,
}

fn read_key(text: &str) -> io::Result<(Algorithm, EncodingKey)> {
    match text.split_once(':') {
        Some(("hs256", secret)) => {
            let secret = STANDARD.decode(secret).map_err(io::Error::other)?;
            Ok((Algorithm::HS256, EncodingKey::from_secret(&secret)))
        }
        None if text == "eddsa" => {
            let der = [&PKCS8_HEAD[..], &RFC8032_SEED].concat();
            Ok((Algorithm::EdDSA, EncodingKey::from_ed_der(&der)))
        }
        _ => Err(io::Error::other("--sign-in is hs256:BASE64 or eddsa")),
    }
}

// The key pair of test 1 in RFC 8032, section 7.1: published, so no secret lies here.
const RFC8032_SEED: [u8; 32] = [
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
    0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];
const RFC8032_PUBLIC: [u8; 32] = [
    0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
    0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
];
/// PKCS #8 of an Ed25519 key, up to the seed.
const PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// SubjectPublicKeyInfo of an Ed25519 key, up to the key.
const SPKI_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// The public half of the key that `eddsa` signs with, PEM: what the server is configured with.
#[must_use]
pub fn eddsa_public_pem() -> String {
    let der = STANDARD.encode([&SPKI_HEAD[..], &RFC8032_PUBLIC].concat());
    format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
}

/// The frame that connects and joins at once.
#[must_use]
pub fn connect_frame(token: String, room: &str) -> ClientFrame {
    let join = vec![Join { room: room.to_owned(), resume: None }];
    let agent = "uproar-benches".to_owned();
    let connect = Connect { token, join, agent, ..Connect::default() };
    ClientFrame { body: Some(Body::Connect(connect)) }
}

/// `UPR1` and a first frame.
#[must_use]
pub fn tcp_opening(frame: &ClientFrame) -> Vec<u8> {
    let mut bytes = b"UPR1".to_vec();
    bytes.extend(frame.encode_length_delimited_to_vec());
    bytes
}

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: uproar.v1.proto\r\n\r\n";

/// One masked binary message. The mask is zero: it costs the server the same and changes nothing.
fn ws_binary(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x82];
    match payload.len() {
        n @ 0..126 => bytes.put_u8(0x80 | n as u8),
        n @ 126..65_536 => {
            bytes.put_u8(0x80 | 126);
            bytes.put_u16(n as u16);
        }
        n => {
            bytes.put_u8(0x80 | 127);
            bytes.put_u64(n as u64);
        }
    }
    bytes.put_u32(0);
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "hs256:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    fn connect_of(bytes: &[u8]) -> Connect {
        let frame = ClientFrame::decode_length_delimited(bytes).expect("a frame");
        match frame.body {
            Some(Body::Connect(connect)) => connect,
            other => panic!("{other:?} is not a connect"),
        }
    }

    #[test]
    fn a_guest_says_upr1_and_joins_in_one_write() {
        let opening = Opening::new(Hello::Tcp, "r", None).expect("no key");
        let bytes = opening.words(3).expect("words").first;
        assert_eq!(&bytes[..4], b"UPR1");
        let connect = connect_of(&bytes[4..]);
        assert_eq!((connect.token.as_str(), connect.join[0].room.as_str()), ("", "r"));
    }

    #[test]
    fn every_viewer_that_signs_in_is_a_user_of_its_own() {
        let opening = Opening::new(Hello::Tcp, "r", Some(SECRET)).expect("key");
        let key = jsonwebtoken::DecodingKey::from_secret(b"0123456789abcdef0123456789abcdef");
        let rules = jsonwebtoken::Validation::new(Algorithm::HS256);
        for viewer in [1, 2] {
            let token = connect_of(&opening.words(viewer).expect("words").first[4..]).token;
            let claims =
                jsonwebtoken::decode::<Claims>(&token, &key, &rules).expect("valid").claims;
            assert_eq!(claims.sub, format!("viewer-{viewer}"));
        }
    }

    #[test]
    fn an_eddsa_token_fits_the_public_key_that_servers_get() {
        let opening = Opening::new(Hello::Tcp, "r", Some("eddsa")).expect("key");
        let token = opening.token("u").expect("token");
        assert!(
            eddsa_public_pem()
                .contains("MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
        );
        let key = jsonwebtoken::DecodingKey::from_ed_der(&RFC8032_PUBLIC);
        let rules = jsonwebtoken::Validation::new(Algorithm::EdDSA);
        assert_eq!(
            jsonwebtoken::decode::<Claims>(&token, &key, &rules).expect("valid").claims.sub,
            "u"
        );
    }

    #[test]
    fn a_websocket_viewer_sends_its_frame_after_the_upgrade() {
        let opening = Opening::new(Hello::Ws, &"r".repeat(150), None).expect("no key");
        let words = opening.words(0).expect("words");
        assert!(words.first.ends_with(b"\r\n\r\n"), "the request ends");
        let frame = words.upgraded;
        assert_eq!(frame[..2], [0x82, 0x80 | 126], "binary, masked, 16-bit length");
        let length = usize::from(u16::from_be_bytes([frame[2], frame[3]]));
        assert_eq!(frame.len(), 2 + 2 + 4 + length);
        assert!(ClientFrame::decode(&frame[8..]).is_ok(), "a zero mask leaves the payload");
    }

    #[test]
    fn a_server_that_wants_no_hello_gets_none() {
        let opening = Opening::new(Hello::None, "r", None).expect("no key");
        assert_eq!(opening.words(0).expect("words"), Words::default());
        assert!(Opening::new(Hello::Tcp, "r", Some("rs256:x")).is_err());
    }
}
