//! The style rules that a machine can check, over the whole tree. Each names what is wrong, where,
//! and what to do instead. Reads files; never builds or changes anything.
//!
//! Rules with a better home are not here: banned functions of the engine (`engine/clippy.toml`),
//! `SAFETY` comments (clippy), the codes and rule numbers of PROTOCOL.md (`proto/tests`), the keys
//! of uproar.toml (`src/config/tests.rs`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Not ours to keep tidy: what is built, what is measured, what git keeps.
const SKIPPED: [&str; 6] = ["target", ".git", ".cache", "runs", "node_modules", "dist"];

const COLUMNS_MAX: usize = 100;
const FUNCTION_LINES_MAX: usize = 70;

/// Files that may break the column rule, and why.
const WIDE: [(&str, &str); 1] = [("proto/src/error.rs", "the table of codes has one code a line")];

struct File {
    /// From the root, with `/`.
    path: String,
    text: String,
}

impl File {
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(place, line)| (place + 1, line))
    }

    /// Lines of Rust without what stands in a comment. (A `//` in a string ends the line early;
    /// no rule here looks for what follows an address.)
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().map(|(number, line)| (number, line.split("//").next().unwrap_or_default()))
    }

    fn is_under(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }
}

/// TypeScript begins with a comment of another kind.
fn is_ts(file: &File) -> bool {
    file.path.ends_with(".ts")
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Files with one of these endings; everything that must be readable text.
fn files(endings: &[&str]) -> Vec<File> {
    let mut paths = Vec::new();
    walk(&root(), &mut paths);
    paths.sort();
    let wanted = |path: &&PathBuf| {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        endings.iter().any(|ending| name.ends_with(ending))
    };
    let read = |path: &PathBuf| File {
        path: path.strip_prefix(root()).unwrap().to_string_lossy().into_owned(),
        text: std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())),
    };
    let files: Vec<File> = paths.iter().filter(wanted).map(read).collect();
    assert!(!files.is_empty(), "nothing was found for {endings:?}: the rule checks nothing");
    files
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
            walk(&entry.path(), paths);
        } else if kind.is_file() {
            paths.push(entry.path());
        }
    }
}

fn none(violations: Vec<String>) {
    assert!(violations.is_empty(), "{} places:\n{}", violations.len(), violations.join("\n"));
}

/// Whether a word stands in a line by itself, not as part of a longer name.
fn has_word(line: &str, word: &str) -> bool {
    let is_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        !is_name(before.chars().next_back()) && !is_name(after.chars().next())
    })
}

#[test]
fn every_module_begins_by_saying_what_it_owns() {
    let begins = |file: &File| file.text.starts_with(["//! ", "/**"][usize::from(is_ts(file))]);
    let violations = files(&[".rs", ".ts"]).into_iter().filter(|file| !begins(file));
    none(violations.map(|file| format!("{}:1: begin with a comment", file.path)).collect());
}

#[test]
fn lines_fit_into_100_columns() {
    let mut violations = Vec::new();
    for file in files(&[".rs", ".ts"]) {
        if WIDE.iter().any(|(path, _)| *path == file.path) {
            continue;
        }
        for (number, line) in file.lines() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                violations.push(format!("{}:{number}: {columns} columns", file.path));
            }
        }
    }
    none(violations);
}

#[test]
fn exceptions_are_still_needed() {
    for (path, reason) in WIDE {
        let text = std::fs::read_to_string(root().join(path)).unwrap();
        let wide = text.lines().any(|line| line.chars().count() > COLUMNS_MAX);
        assert!(wide, "{path} fits by now; take its exception out ({reason})");
    }
}

#[test]
fn functions_fit_on_a_screen() {
    let mut violations = Vec::new();
    for file in files(&[".rs"]) {
        let lines: Vec<&str> = file.text.lines().collect();
        for (place, line) in lines.iter().enumerate() {
            let Some(length) = function_lines(&lines[place..]) else { continue };
            if length > FUNCTION_LINES_MAX && !is_one_match(&lines[place..place + length]) {
                let name = line.trim();
                violations.push(format!(
                    "{}:{}: {length} lines, {FUNCTION_LINES_MAX} are allowed: {name}",
                    file.path,
                    place + 1
                ));
            }
        }
    }
    none(violations);
}

/// How many lines the function has that begins in the first one, as rustfmt lays it out: it ends
/// with a brace in the column it began in.
fn function_lines(lines: &[&str]) -> Option<usize> {
    let first = lines.first()?;
    let column = first.len() - first.trim_start().len();
    let qualifiers = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern"];
    let mut words = first.split_whitespace().skip_while(|word| qualifiers.contains(word));
    if words.next() != Some("fn") || first.ends_with([';', '}']) {
        return None;
    }
    let end = format!("{}}}", " ".repeat(column));
    lines.iter().position(|line| *line == end).map(|place| place + 1)
}

/// A flat `match` is a table: it may be long.
fn is_one_match(function: &[&str]) -> bool {
    let column = function[0].len() - function[0].trim_start().len() + 4;
    let of_body = |line: &&&str| {
        let indent = line.len() - line.trim_start().len();
        indent == column && !line.trim_start().starts_with("//")
    };
    let body_from = function.iter().position(|line| line.ends_with('{')).unwrap_or(0) + 1;
    let statements: Vec<_> = function[body_from..].iter().filter(of_body).collect();
    matches!(statements[..], [first, last] if first.trim_start().starts_with("match ")
        && last.trim_start() == "}")
}

#[test]
fn every_file_is_part_of_a_crate() {
    let files = files(&[".rs"]);
    let texts: std::collections::BTreeMap<&str, &str> =
        files.iter().map(|file| (file.path.as_str(), file.text.as_str())).collect();
    let mut violations = Vec::new();
    for file in &files {
        if is_crate_root(&file.path) {
            continue;
        }
        let (folder, name) = file.path.rsplit_once('/').expect("below a folder");
        let (home, module) = match name.strip_suffix(".rs") {
            Some("mod") => folder.rsplit_once('/').expect("a module's folder has a parent"),
            module => (folder, module.unwrap_or(name)),
        };
        let parents = [
            format!("{home}/mod.rs"),
            format!("{home}/lib.rs"),
            format!("{home}/main.rs"),
            format!("{home}.rs"),
        ];
        let declared = format!("mod {module};");
        let by_path = format!("#[path = \"{name}\"]");
        let says = |text: &&str| text.contains(&declared) || text.contains(&by_path);
        if home.ends_with("tests") && texts.iter().any(|(p, t)| p.starts_with(home) && says(t)) {
            continue; // shared by several tests, each a crate of its own
        }
        let is_declared = parents.iter().any(|p| texts.get(p.as_str()).is_some_and(says));
        let included_by_path =
            texts.iter().any(|(path, text)| path.starts_with(folder) && text.contains(&by_path));
        if !is_declared && !included_by_path {
            violations
                .push(format!("{}: no `{declared}` names it; add it or delete it", file.path));
        }
    }
    none(violations);
}

fn is_crate_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    matches!(
        parts[..],
        [.., "build.rs"]
            | [.., "src", "lib.rs" | "main.rs"]
            | [.., "src", "bin", _]
            | [.., "src", "bin", _, "main.rs"]
            | [.., "tests" | "examples", _]
            | [.., "tests" | "examples", _, "main.rs"]
    )
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut violations = Vec::new();
    for file in files(&[".md"]) {
        for (number, target) in links(&file) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let beside = root().join(&file.path);
            let place = match path {
                "" => beside,
                _ => beside.parent().unwrap().join(path),
            };
            if !place.exists() {
                violations.push(format!("{}:{number}: {path} does not exist", file.path));
            } else if !anchor.is_empty() && !anchors(&place).contains(anchor) {
                violations.push(format!("{}:{number}: no heading for #{anchor}", file.path));
            }
        }
    }
    none(violations);
}

/// The targets of `[text](target)` outside code blocks, with their line.
fn links(file: &File) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (number, line) in file.lines() {
        in_code ^= line.trim_start().starts_with("```");
        if in_code || line.starts_with("    ") {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            if let Some(end) = line[at..].find(')') {
                found.push((number, line[at + 2..at + end].to_owned()));
            }
        }
    }
    found
}

/// The anchors of a document's headings, as they are made on the usual sites.
fn anchors(document: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(document).unwrap_or_default();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| -> String {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn unsafe_code_is_where_it_is_allowed() {
    const ALLOWED: [&str; 5] = [
        "engine/src/io/uring.rs",
        "engine/src/io/epoll.rs",
        "engine/src/io/sys.rs",
        "benches/src/sys.rs",
        "benches/runtimes/src/bin/glommio.rs", // takes a listener by its number, or not at all
    ];
    let mut violations = Vec::new();
    for file in files(&[".rs"]) {
        if ALLOWED.contains(&file.path.as_str()) || file.path == file!() {
            continue;
        }
        for (number, line) in file.code().filter(|(_, line)| has_word(line, "unsafe")) {
            violations.push(format!("{}:{number}: {}", file.path, line.trim()));
        }
    }
    none(violations);
    for (path, promise) in [
        ("src/main.rs", "#![forbid(unsafe_code)]"),
        ("proto/src/lib.rs", "#![forbid(unsafe_code)]"),
        ("control/src/lib.rs", "#![forbid(unsafe_code)]"),
        ("link/src/lib.rs", "#![forbid(unsafe_code)]"),
        ("loadgen/src/main.rs", "#![forbid(unsafe_code)]"),
        ("engine/src/lib.rs", "#![deny(unsafe_code)]"),
        ("benches/src/lib.rs", "#![deny(unsafe_code)]"),
    ] {
        let text = std::fs::read_to_string(root().join(path)).unwrap();
        assert!(text.lines().any(|line| line == promise), "{path}: {promise} is missing");
    }
}

/// What must not be named, in the files below which folders, but in which of them, and why.
struct Ban {
    words: &'static [&'static str],
    under: &'static [&'static str],
    but: &'static [&'static str],
    reason: &'static str,
}

const BANS: [Ban; 11] = [
    Ban {
        words: &["uproar_control"],
        under: &["engine/", "proto/", "link/", "loadgen/"],
        but: &[],
        reason: "engine and control know each other by uproar_proto::control alone",
    },
    Ban {
        words: &["uproar_engine"],
        under: &["control/", "proto/", "link/"],
        but: &[],
        reason: "engine and control know each other by uproar_proto::control alone",
    },
    Ban {
        words: &["tokio", "axum", "hyper", "reqwest", "io_uring", "libc", "socket2"],
        under: &["proto/src/"],
        but: &[],
        reason: "proto is what goes over a wire, and nothing that moves it",
    },
    Ban {
        words: &["io", "metrics", "engine", "sim", "cluster", "shard"],
        under: &["engine/src/router/", "engine/src/seam.rs"],
        but: &[],
        reason: "the router and the seam point at nothing above them",
    },
    Ban {
        words: &["io", "engine", "sim"],
        under: &["engine/src/shard/", "engine/src/cluster/", "engine/src/metrics.rs"],
        but: &[],
        reason: "the shard is pure: drivers depend on it by the seam, never the reverse",
    },
    Ban {
        words: &["shard", "router", "cluster", "sim", "engine"],
        under: &["engine/src/io/"],
        but: &[],
        reason: "a driver carries any machine: it knows the seam alone",
    },
    Ban {
        words: &["ConnSlot", "Connections", "connections::"],
        under: &["engine/src/router/"],
        but: &[],
        reason: "a home has no connection",
    },
    Ban {
        words: &["RawFd", "OwnedFd", "BorrowedFd", "as_raw_fd", "libc", "TcpStream", "TcpListener"],
        under: &["engine/src/"],
        but: &["engine/src/io/"],
        reason: "no file outside io names a descriptor or a socket",
    },
    Ban {
        words: &["Instant", "SystemTime"],
        under: &["engine/src/"],
        but: &["engine/src/io/", "engine/src/engine.rs", "engine/src/bin/"],
        reason: "time comes in as a value; engine.rs tells people its uptime",
    },
    Ban {
        words: &["glommio"],
        under: &["src/", "proto/", "engine/", "control/", "link/", "loadgen/"],
        but: &[],
        reason: "a baseline in benches/runtimes, never in the product",
    },
    Ban {
        words: &["broadcast", "Broadcast"],
        under: &["src/", "proto/", "engine/", "control/", "link/", "loadgen/"],
        // A route is called so, as platforms call it.
        but: &["control/src/http/", "control/tests/http/"],
        reason: "say sweep (a frame over a shard's members) or flush (a home's batch)",
    },
];

#[test]
fn dependencies_point_one_way() {
    let mut violations = Vec::new();
    for file in files(&[".rs"]) {
        for ban in BANS.iter().filter(|b| file.is_under(b.under) && !file.is_under(b.but)) {
            for (number, line) in file.code() {
                if let Some(word) = ban.words.iter().find(|word| names(line, word)) {
                    violations.push(format!("{}:{number}: {word}: {}", file.path, ban.reason));
                }
            }
        }
    }
    none(violations);
}

/// Whether a line names a crate, a type or one of the engine's own modules.
fn names(line: &str, word: &str) -> bool {
    const MODULES: [&str; 7] = ["io", "metrics", "engine", "sim", "cluster", "shard", "router"];
    if MODULES.contains(&word) {
        return has_word(line, &format!("crate::{word}"));
    }
    has_word(line, word)
}

#[test]
fn the_arrows_of_the_manifests_are_those_of_the_map() {
    for (path, not) in [
        ("proto/Cargo.toml", &["uproar-engine", "uproar-control", "tokio", "io-uring"][..]),
        ("engine/Cargo.toml", &["uproar-control", "uproar-link", "tokio", "axum"]),
        ("control/Cargo.toml", &["uproar-engine", "uproar-link", "io-uring"]),
        ("link/Cargo.toml", &["uproar-engine", "uproar-control"]),
        ("loadgen/Cargo.toml", &["uproar-control"]),
    ] {
        let text = std::fs::read_to_string(root().join(path)).unwrap();
        for name in not {
            let names = |line: &str| {
                line.starts_with(&format!("{name}.")) || line.starts_with(&format!("{name} "))
            };
            assert!(!text.lines().any(names), "{path} depends on {name}");
        }
    }
}

#[test]
fn the_text_is_about_the_project_alone() {
    // Put together here, so that this file does not hold them.
    let banned: Vec<(String, &str)> = vec![
        (["/wo", "rk/"].concat(), "a path of one machine; write it from the root"),
        (["/ro", "ot/"].concat(), "a path of one machine; write it from the root"),
        (["/ho", "me/"].concat(), "a path of one machine; write it from the root"),
        (["TO", "DO"].concat(), "finish it, or open an issue"),
        (["FIX", "ME"].concat(), "finish it, or open an issue"),
        (["Cla", "ude"].concat(), "the text is about the project alone"),
        (["LL", "M"].concat(), "the text is about the project alone"),
    ];
    let mut violations = Vec::new();
    for file in files(&[".rs", ".md", ".toml", ".proto", ".txt", "test", "tune-host.sh", "bench"]) {
        for (number, line) in file.lines() {
            for (word, instead) in banned.iter().filter(|(word, _)| has_part(line, word)) {
                violations.push(format!("{}:{number}: {word}: {instead}", file.path));
            }
        }
    }
    none(violations);
}

/// A path anywhere; a name only by itself.
fn has_part(line: &str, word: &str) -> bool {
    if word.starts_with('/') { line.contains(word) } else { has_word(line, word) }
}

#[test]
fn the_rules_find_what_they_look_for() {
    assert!(has_word("an unsafe block", "unsafe") && !has_word("unsafe_code", "unsafe"));
    assert!(names("use crate::io::Launch;", "io") && !names("use std::io;", "io"));
    assert!(!names("use crate::ioctl;", "io"));
    let long = ["fn f() {", "    a();", "    b();", "}", ""];
    assert_eq!(function_lines(&long), Some(4));
    assert!(!is_one_match(&long[..4]));
    let table = ["    pub(crate) fn f(", "        a: u8,", "    ) -> u8 {", "        match a {"];
    let table = [&table[..], &["            0 => 1,", "        }", "    }"]].concat();
    assert_eq!(function_lines(&table), Some(7));
    assert!(is_one_match(&table));
    assert_eq!(function_lines(&["let f = fn_name();"]), None);
    assert!(is_crate_root("tests/e2e/main.rs") && !is_crate_root("tests/e2e/client.rs"));
    let text = "see [a](b.md#c)\n```\n[no](x)\n```\n".to_owned();
    assert_eq!(links(&File { path: String::new(), text }), [(1, "b.md#c".to_owned())]);
}

/// What a reader of either language types and follows.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outline {
    /// Of its headings, in order: how deep, and how many tables' rows, pictures and points follow.
    headings: Vec<(usize, [usize; 3])>,
    commands: Vec<String>,
    /// Inline code and where links lead.
    names: BTreeSet<String>,
    links: Vec<String>,
}

fn outline(path: &str) -> Outline {
    let text = std::fs::read_to_string(root().join(path)).unwrap();
    let mut outline = Outline::default();
    let mut prose = String::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("    ") {
            outline.commands.push(command.to_owned());
            continue;
        }
        let depth = line.bytes().take_while(|b| *b == b'#').count();
        if depth > 0 {
            outline.headings.push((depth, [0; 3]));
        } else if let Some((_, counts)) = outline.headings.last_mut() {
            for (count, begin) in counts.iter_mut().zip(["|", "![", "* "]) {
                *count += usize::from(line.starts_with(begin));
            }
        }
        prose += line;
        prose += " ";
    }
    outline.names = prose.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    outline.links = targets.map(str::to_owned).collect();
    outline
}

#[test]
fn the_chinese_readme_has_the_headings_commands_names_and_links_of_the_english_one() {
    let (english, chinese) = (outline("README.md"), outline("README.zh-CN.md"));
    assert!(english.headings.len() > 5 && english.commands.len() > 20 && english.links.len() > 5);
    assert_eq!(english.commands, chinese.commands);
    assert_eq!(english.names, chinese.names);
    assert_eq!(english.links, chinese.links);
    assert_eq!(english.headings, chinese.headings);
}
