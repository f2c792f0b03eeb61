//! The kernel settings that matter for many connections: what is wanted of each, and why.
//!
//! Owns the list for `uproar doctor`. `scripts/tune-host.sh` has the same one, for hosts without
//! this binary, and sets it; a test here compares the two.

use super::judge::Check;

/// What a setting should be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Want {
    /// At least this; of several numbers the last one counts.
    Min(u64),
    /// Exactly this.
    Is(&'static str),
}

/// One setting.
struct Setting {
    name: &'static str,
    want: Want,
    why: &'static str,
}

/// No shard holds more files: its table of registered files ends there.
const FILES_MAX: u64 = 1 << 20;

/// The list, for so many connections.
fn settings(connections: u64) -> Vec<Setting> {
    use Want::{Is, Min};
    let row = |name, want, why| Setting { name, want, why };
    vec![
        row(
            "fs.nr_open",
            Min((connections + 65_536).min(FILES_MAX)),
            "it is the ceiling of every open-file limit",
        ),
        row("fs.file-max", Min(connections * 2 + 200_000), "every socket is a file"),
        row("net.core.somaxconn", Min(4_096), "a connect storm is refused beyond it"),
        row("net.ipv4.tcp_max_syn_backlog", Min(8_192), "half-open connections of a connect storm"),
        row("net.ipv4.tcp_syncookies", Is("1"), "else a flood of SYNs fills the backlog"),
        row(
            "net.ipv4.tcp_max_orphans",
            Min(connections / 4 + 65_536),
            "a drain closes many at once, and beyond it last words are lost",
        ),
        row(
            "net.ipv4.tcp_congestion_control",
            Is("cubic"),
            "bbr costs a timer a connection: worth it for far and lossy viewers alone",
        ),
        row(
            "net.ipv4.tcp_slow_start_after_idle",
            Is("0"),
            "else a quiet room's next burst begins with a small window",
        ),
        row(
            "net.ipv4.tcp_wmem",
            Is("4096 16384 262144"),
            "its last number is what a frozen viewer costs (or set engine.send_buffer_bytes)",
        ),
        row("net.core.netdev_max_backlog", Min(16_384), "the packets of one sweep wait there"),
        row("net.ipv4.tcp_mem", Min(connections * 2), "pages for all buffers of all connections"),
        row(
            "net.netfilter.nf_conntrack_max",
            Min(connections * 2),
            "a full table drops packets (better: do not track the client port)",
        ),
    ]
}

/// A warning for each setting that is not as wanted, or one line that says all are. `read` gives
/// the value of a setting; one that this kernel does not have is left out.
pub(super) fn checks(connections: u64, read: impl Fn(&str) -> Option<String>) -> Vec<Check> {
    let mut found = Vec::new();
    let mut as_wanted = 0;
    for Setting { name, want, why } in settings(connections) {
        let Some(now) = read(name) else { continue };
        let now = now.split_whitespace().collect::<Vec<_>>().join(" ");
        if is_as_wanted(&now, &want) {
            as_wanted += 1;
            continue;
        }
        let (want, value) = match want {
            Want::Min(least) => (format!("at least {least}"), least.to_string()),
            Want::Is(value) => (value.to_owned(), value.to_owned()),
        };
        // A script that gives the other numbers too sets this one.
        let remedy = match name {
            "net.ipv4.tcp_mem" => format!("scripts/tune-host.sh --connections {connections}"),
            name => format!("sysctl -w {name}=\"{value}\" (scripts/tune-host.sh sets all)"),
        };
        found.push(Check::warn(name, format!("it is {now}, wanted is {want}: {why}"), remedy));
    }
    if found.is_empty() {
        found.push(Check::ok("sysctls", format!("{as_wanted} settings are as wanted")));
    }
    found
}

fn is_as_wanted(now: &str, want: &Want) -> bool {
    match want {
        Want::Is(value) => now == *value,
        // Larger than u64 is as good as no bound.
        Want::Min(least) => now.rsplit(' ').next().is_some_and(|last| {
            let is_number = !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit());
            is_number && last.parse::<u64>().map_or(true, |now| now >= *least)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Of the script alone: it is about the load tester's own ports.
    const OF_TESTERS: &str = "net.ipv4.ip_local_port_range";

    /// What the script wants for so many connections, as `kind name value`, by its own arithmetic.
    fn of_the_script(connections: u64) -> Vec<String> {
        let script = include_str!("../../scripts/tune-host.sh");
        let from = script.find("section \"Descriptors").unwrap();
        let to = script.find("\nif [ \"$failed\" -gt 0 ]").unwrap();
        let list = script[from..to].replace("[ -e /proc/sys/net/netfilter/nf_conntrack_max ]", ":");
        let told = "section() { :; }; show() { :; }; want() { echo \"$1 $2 $3\"; }";
        let text = format!("{told}\nconnections={connections}\n{list}");
        let out = Command::new("bash").args(["-c", &text]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_script_and_the_doctor_want_the_same() {
        for connections in [1_000, 1_000_000, 90_000_000] {
            let mut theirs: Vec<String> = of_the_script(connections)
                .iter()
                .filter(|line| !line.contains(OF_TESTERS))
                .map(|line| match line.strip_prefix("min net.ipv4.tcp_mem ") {
                    // Of each the last number counts.
                    Some(values) => {
                        format!("min net.ipv4.tcp_mem {}", values.rsplit(' ').next().unwrap())
                    }
                    None => line.clone(),
                })
                .collect();
            let ours = settings(connections).into_iter().map(|one| match one.want {
                Want::Min(least) => format!("min {} {least}", one.name),
                Want::Is(value) => format!("is {} {value}", one.name),
            });
            let mut ours: Vec<String> = ours.collect();
            theirs.sort();
            ours.sort();
            assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn what_differs_is_named_with_its_value_and_its_remedy() {
        let good = |name: &str| {
            let one = settings(1_000).into_iter().find(|one| one.name == name)?;
            Some(match one.want {
                Want::Min(least) => format!("0\t{least}\n"),
                Want::Is(value) => value.replace(' ', "\t"),
            })
        };
        let all = checks(1_000, good);
        assert_eq!(all, [Check::ok("sysctls", "12 settings are as wanted".into())]);
        let worse = |name: &str| match name {
            "net.core.somaxconn" => Some("128".into()),
            "net.ipv4.tcp_syncookies" => None,
            "fs.file-max" => Some("99999999999999999999".into()),
            name => good(name),
        };
        let found = checks(1_000, worse);
        let text = format!("{found:?}");
        assert_eq!(found.len(), 1, "{text}");
        assert!(text.contains("it is 128, wanted is at least 4096"), "{text}");
        assert!(text.contains("sysctl -w net.core.somaxconn="), "{text}");
    }
}
