//! The scripts as a person meets them: their help, their answers to wrong words, what they print.
//! Nothing here changes the machine.

use std::path::Path;
use std::process::{Command, Output};

fn run(script: &str, args: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    Command::new(root.join("scripts").join(script)).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn every_script_explains_itself() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let mut scripts = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            continue; // files for other programs: systemd, Grafana, Prometheus
        }
        let name = entry.file_name().into_string().unwrap();
        let help = run(&name, &["--help"]);
        assert_eq!(help.status.code(), Some(0), "{name}: {}", text(&help.stderr));
        assert!(text(&help.stdout).contains(&format!("scripts/{name}")), "{name}: its usage");
        scripts += 1;
    }
    assert!(scripts >= 2);
}

#[test]
fn wrong_words_end_with_2_and_change_nothing() {
    for (script, args) in [
        ("test", &["--fast"][..]),
        ("web", &["bild"]),
        ("web", &["build", "it"]),
        ("screenshots", &["--all"]),
        ("screenshots", &["a", "b"]),
        ("tune-host.sh", &["--aply"]),
        ("tune-host.sh", &["--connections"]),
        ("tune-host.sh", &["--connections", "0"]),
        ("tune-host.sh", &["--connections", "1e6"]),
        ("tune-host.sh", &["--apply", "--conf"]),
    ] {
        let out = run(script, args);
        assert_eq!(out.status.code(), Some(2), "{script} {args:?}");
        assert!(out.stdout.is_empty() && !out.stderr.is_empty(), "{script} {args:?}");
    }
}

#[test]
fn printing_the_host_tells_values_and_reasons() {
    let out = run("tune-host.sh", &["--connections", "200000"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(out.stderr.is_empty(), "{}", text(&out.stderr));
    let printed = text(&out.stdout);
    for name in ["fs.nr_open", "net.core.somaxconn", "net.ipv4.tcp_mem", "ip_local_port_range"] {
        assert!(printed.contains(name), "{name} is missing in:\n{printed}");
    }
}

#[test]
fn the_printed_file_is_one_that_sysctl_reads() {
    let out = run("tune-host.sh", &["--conf"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let mut settings = 0;
    for line in text(&out.stdout).lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.split_once(" = ").unwrap_or_else(|| panic!("{line}"));
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        // A container's network has not all of them.
        assert!(Path::new(&path).exists() || name.starts_with("net."), "{path}");
        assert!(!value.is_empty(), "{line}");
        settings += 1;
    }
    assert!(settings >= 5);
}
