//! The dashboard and the alerts: every figure they name is one that a real server tells, with the
//! labels they ask for.

use crate::server::{DEADLINE, Folder, SECRET, Server, read, root, text, uproar};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Instant;
use yaml_rust2::{Yaml, YamlLoader};

/// Labels that Prometheus adds.
const OF_PROMETHEUS: [&str; 1] = ["instance"];

/// Figures that a healthy server does not have, and the file that makes them.
const NOT_YET: [(&str, &str, &str); 1] = [("uproar_panics_total", "task", "control/src/guard.rs")];

/// By figure and label, its values.
type Series = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Adds what a page of Prometheus text holds.
fn add(series: &mut Series, page: &str) {
    for line in page.lines().filter(|l| l.starts_with("uproar_") || l.starts_with("process_")) {
        let name = line.split(['{', ' ']).next().unwrap();
        let labels = series.entry(name.to_owned()).or_default();
        let inside = line.split_once('{').and_then(|(_, rest)| Some(rest.rsplit_once('}')?.0));
        for (label, value) in pairs(inside.unwrap_or_default()) {
            labels.entry(label).or_default().insert(value);
        }
    }
}

/// `a="x",b=~"y"`: names and values.
fn pairs(text: &str) -> Vec<(String, String)> {
    let parts: Vec<&str> = text.split('"').collect();
    let pair = |two: &[&str]| {
        let name = two[0].trim_matches(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        (name.to_owned(), two[1].to_owned())
    };
    parts.chunks_exact(2).map(pair).collect()
}

/// What a server, a control process and an engine tell, each at work.
fn told() -> Series {
    let folder = Folder::new("watching");
    let secret = format!("engine.tokens.hs256_secret={SECRET}");
    let hook = format!(
        "webhooks=[{{name=\"hook\",url=\"http://127.0.0.1:9/\",secret=\"{SECRET}\",\
         events=[\"message.after\"]}}]"
    );
    let with = |args: &[&str], store: &str| {
        let url = format!("store.url=sqlite:{}", folder.path(store));
        let mut command = uproar(args);
        command.args(["--http", "127.0.0.1:0", "--set", &url, "--set", &secret]);
        command.args(["--set", "link.key=a-key-of-22-characters", "--set", "link.known_file="]);
        command
    };
    let listen = ["--listen", "127.0.0.1:0", "--shards", "2"];
    let mut serve = with(&[&["serve"], &listen[..]].concat(), "serve.db");
    let serve = Server::start({
        serve.args(["--set", &hook]);
        serve
    });
    let control = Server::start(with(&["control", "--link", "127.0.0.1:0"], "control.db"));
    let link = format!("http://{}", control.clients);
    let engine = with(&[&["engine", "--control", &link], &listen[..]].concat(), "none.db");
    let engine = Server::start(engine);
    let end = Instant::now() + DEADLINE;
    loop {
        let mut series = Series::new();
        // Requests are counted once they are answered: the second page has the first.
        for server in [&serve, &control, &engine, &serve] {
            add(&mut series, &server.get("/metrics"));
        }
        if series.contains_key("uproar_link_node_up") {
            return series;
        }
        assert!(Instant::now() < end, "the engine is never linked");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// The figures of an expression, each with what stands in its braces.
fn figures(expression: &str) -> Vec<(String, String)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(at) = ["uproar_", "process_"].iter().filter_map(|p| rest.find(p)).min() {
        let name: String = rest[at..].chars().take_while(|c| is_name(*c)).collect();
        rest = &rest[at + name.len()..];
        let inside = rest.strip_prefix('{').and_then(|rest| Some(rest.split_once('}')?.0));
        found.push((name, inside.unwrap_or_default().to_owned()));
    }
    found
}

/// The labels an expression groups by.
fn grouped(expression: &str) -> Vec<String> {
    let lists = expression.split("by (").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    lists.flat_map(|list| list.split(',').map(|label| label.trim().to_owned())).collect()
}

/// What is wrong with an expression; nothing where all of it exists.
fn wrong(series: &Series, expression: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let figures = figures(expression);
    for (name, inside) in &figures {
        let Some(labels) = series.get(name) else {
            if !NOT_YET.iter().any(|(later, _, _)| later == name) {
                wrong.push(format!("no server tells {name}: {expression}"));
            }
            continue;
        };
        for (label, value) in pairs(inside) {
            if OF_PROMETHEUS.contains(&label.as_str()) {
                continue;
            }
            let has = labels.get(&label).cloned().unwrap_or_default();
            if !value.split('|').all(|value| has.contains(value)) {
                wrong.push(format!("{name} has no {label}={value:?}: {expression}"));
            }
        }
        for label in grouped(expression) {
            let is_there = OF_PROMETHEUS.contains(&label.as_str()) || labels.contains_key(&label);
            if !is_there {
                wrong.push(format!("{name} has no label {label}: {expression}"));
            }
        }
    }
    if figures.is_empty() {
        wrong.push(format!("it names no figure: {expression}"));
    }
    wrong
}

/// Every expression of the dashboard.
fn dashboard() -> Vec<String> {
    let text = read("scripts/grafana/uproar.json");
    let board: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut ids = BTreeSet::new();
    let mut expressions = Vec::new();
    for panel in board["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "an id is given twice: {panel}");
        assert!(!panel["title"].as_str().unwrap().is_empty());
        for target in panel["targets"].as_array().unwrap() {
            expressions.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    expressions
}

/// Every alert: its name, its expression, its words.
fn alerts() -> Vec<(String, String, String)> {
    let text = read("scripts/prometheus/alerts.yml");
    let files = YamlLoader::load_from_str(&text).unwrap();
    let rules = files[0]["groups"][0]["rules"].as_vec().unwrap();
    let word =
        |of: &Yaml| of.as_str().unwrap_or_else(|| panic!("it is missing: {of:?}")).to_owned();
    let alert = |rule: &Yaml| {
        let notes = &rule["annotations"];
        assert!(["warning", "critical"].contains(&rule["labels"]["severity"].as_str().unwrap()));
        let words = format!("{} {}", word(&notes["summary"]), word(&notes["todo"]));
        (word(&rule["alert"]), word(&rule["expr"]), words)
    };
    rules.iter().map(alert).collect()
}

#[test]
fn every_figure_of_the_dashboard_and_the_alerts_is_told_by_a_server() {
    let series = told();
    let (expressions, alerts) = (dashboard(), alerts());
    assert!(expressions.len() >= 30 && alerts.len() >= 10);
    let mut all: Vec<String> = expressions.iter().flat_map(|one| wrong(&series, one)).collect();
    let mut names = BTreeSet::new();
    for (name, expression, words) in &alerts {
        assert!(names.insert(name), "{name} is given twice");
        all.extend(wrong(&series, expression));
        // Labels in its words are left by its expression.
        let grouped = grouped(expression);
        for rest in words.split("$labels.").skip(1) {
            let label: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
            let of_figure = figures(expression).iter().any(|(name, _)| {
                let later = NOT_YET.iter().any(|(n, l, _)| n == name && *l == label);
                later || series.get(name).is_some_and(|labels| labels.contains_key(&label))
            });
            let left = match grouped.is_empty() {
                true => of_figure || OF_PROMETHEUS.contains(&label.as_str()),
                false => grouped.contains(&label),
            };
            if !left {
                all.push(format!("{name}: its words name the label {label}, which is gone"));
            }
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
    for (name, label, file) in NOT_YET {
        let source = read(file);
        assert!(
            source.contains(&format!("\"{name}\"")) && source.contains(&format!("\"{label}\""))
        );
        assert!(!series.contains_key(name), "{name} is told by now; take it out of the list");
    }
}

#[test]
fn every_alert_fires_where_it_should_and_nowhere_else() {
    let test = read("scripts/prometheus/alerts-test.yml");
    for (name, ..) in alerts() {
        assert!(test.contains(&format!("alertname=\"{name}\"")), "{name} is never seen to fire");
    }
    let mut promtool = Command::new("promtool");
    if !promtool.arg("--version").output().is_ok_and(|out| out.status.success()) {
        eprintln!("SKIPPED: the alerts, by promtool (it is not installed)");
        return;
    }
    let folder = root().join("scripts/prometheus");
    for args in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts-test.yml"]] {
        let out = Command::new("promtool").args(args).current_dir(&folder).output().unwrap();
        assert!(out.status.success(), "{}{}", text(&out.stdout), text(&out.stderr));
    }
}

#[test]
fn what_does_not_exist_is_found() {
    let mut series = Series::new();
    add(&mut series, "uproar_a{class=\"chat\",what=\"sent\"} 1\nuproar_b 2\n");
    let good = "sum by (class) (rate(uproar_a{instance=~\"$instance\",what=\"sent\"}[5m]))";
    assert!(wrong(&series, good).is_empty());
    for bad in [
        "uproar_c",
        "up",
        "uproar_a{what=\"lost\"}",
        "uproar_a{class=~\"chat|gift\"}",
        "sum by (shard) (uproar_b)",
    ] {
        assert_eq!(wrong(&series, bad).len(), 1, "{bad}");
    }
}
