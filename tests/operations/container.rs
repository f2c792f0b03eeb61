//! The container's recipe: no tool that builds it is asked for, so what it names is checked here.

use crate::server::{read, root};

/// The instructions, each on one line.
fn instructions(recipe: &str) -> Vec<String> {
    let lines: Vec<&str> = recipe.lines().filter(|line| !line.starts_with('#')).collect();
    let text = lines.join("\n").replace("\\\n", " ");
    text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

/// What is copied from the repository.
fn sources(recipe: &str) -> Vec<String> {
    let copies = instructions(recipe)
        .into_iter()
        .filter(|line| line.starts_with("COPY ") && !line.contains("--from="));
    let words = copies.flat_map(|line| {
        let words: Vec<String> = line.split_whitespace().skip(1).map(str::to_owned).collect();
        words[..words.len() - 1].to_vec()
    });
    words.collect()
}

#[test]
fn what_is_copied_exists_and_is_not_ignored() {
    let ignored = read(".dockerignore");
    let sources = sources(&read("Containerfile"));
    assert!(sources.len() >= 8, "{sources:?}");
    for source in sources {
        assert!(root().join(&source).exists(), "{source} does not exist");
        assert!(!ignored.lines().any(|line| line == source), "{source} is ignored");
    }
}

#[test]
fn every_member_of_the_workspace_is_there_to_build() {
    let sources = sources(&read("Containerfile"));
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    for member in manifest["workspace"]["members"].as_array().unwrap() {
        let member = member.as_str().unwrap().to_owned();
        assert!(sources.contains(&member), "{member} is not copied");
    }
    // The compiler is one that the workspace takes.
    let version = manifest["workspace"]["package"]["rust-version"].as_str().unwrap();
    let from = format!("FROM docker.io/library/rust:{version}-");
    assert!(instructions(&read("Containerfile")).iter().any(|line| line.starts_with(&from)));
}

#[test]
fn it_does_not_run_as_root() {
    let recipe = instructions(&read("Containerfile"));
    let user = recipe.iter().position(|line| line.starts_with("USER 10001"));
    let entry = recipe.iter().position(|line| line.starts_with("ENTRYPOINT"));
    assert!(user.is_some() && user < entry, "{recipe:?}");
}
