//! What a user is called on the wire, and who that is: (issuer, name there).
//!
//! Owns the one rule: a user of a foreign issuer is `NAME@ISSUER`, everybody else is the bare
//! name. An issuer has no dot in its short name, so an e-mail address stays a local name. The rule
//! needs no configuration: a name means the same before and after an issuer is added.

use std::borrow::Cow;

/// The issuer of accounts that are made here, and of tokens that this node's own keys sign.
pub const LOCAL: &str = "";

/// The issuer of users that were erased: what they were called is a hash there. Nobody else's.
pub const ERASED: &str = "erased";

/// The longest short name of an issuer, in bytes.
pub const ISSUER_BYTES_MAX: usize = 16;

/// Whether a name is one that no URL can hold: clients take these steps out of a path themselves,
/// however they are written. So nothing is called so.
#[must_use]
pub fn is_dots(name: &str) -> bool {
    matches!(name, "." | "..")
}

/// Whether a text may be an issuer's short name: 1 to 16 bytes of a-z 0-9 and -.
#[must_use]
pub fn is_issuer(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=ISSUER_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

/// The issuer and the name there of a name on the wire. The last `@` counts: a name there may hold
/// one itself.
#[must_use]
pub fn split(wire: &str) -> (&str, &str) {
    match wire.rsplit_once('@') {
        Some((name, issuer)) if !name.is_empty() && is_issuer(issuer) => (issuer, name),
        _ => (LOCAL, wire),
    }
}

/// The name on the wire of a user of an issuer: the inverse of [`split`].
#[must_use]
pub fn join<'a>(issuer: &str, name: &'a str) -> Cow<'a, str> {
    if issuer == LOCAL { Cow::Borrowed(name) } else { Cow::Owned(format!("{name}@{issuer}")) }
}

/// Whether a name on the wire is one that this node's own keys and accounts may give.
#[must_use]
pub fn is_local(wire: &str) -> bool {
    split(wire).0 == LOCAL
}

/// What a guest's name begins with; the server makes the rest.
pub const GUEST: &str = "guest-";

/// Whether a name is one that a server gives to a guest: another's at each start of the process.
#[must_use]
pub fn is_guest(name: &str) -> bool {
    let rest = name.strip_prefix(GUEST);
    rest.is_some_and(|rest| rest.len() == 12 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Characters that show nothing or turn the text around them: controls, formats, fillers, tags.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_identity_has_one_name_and_every_name_one_identity() {
        let identities =
            [("", "bob"), ("acme", "bob"), ("acme", "b@x"), ("a-1", "7"), ("", "@acme")];
        for (issuer, name) in identities {
            assert_eq!(split(&join(issuer, name)), (issuer, name));
        }
        for wire in ["bob", "bob@acme", "b@x@acme", "@acme", "bob@", "@", "", "a@B", "a@b c"] {
            let (issuer, name) = split(wire);
            assert_eq!(join(issuer, name), wire);
        }
    }

    #[test]
    fn what_ends_like_an_issuer_is_no_local_name() {
        for foreign in ["bob@acme", "b@x@acme", "bob@localhost", "@@acme"] {
            assert!(!is_local(foreign), "{foreign}");
        }
        for local in ["bob", "bob@example.com", "@acme", "bob@Acme", "bob@12345678901234567"] {
            assert!(is_local(local), "{local}");
        }
    }
}
