//! Layers, errors with their place, and the example file.

use super::*;
use std::collections::BTreeSet;

/// The documented file of this repository.
const EXAMPLE: &str = include_str!("../../uproar.toml");

fn variables(list: &[(&str, &str)]) -> Vec<(Origin, String)> {
    from_environment(list.iter().map(|(name, value)| (name.into(), value.into())))
}

fn with_variables(list: &[(&str, &str)]) -> Result<Config, String> {
    layered(None, variables(list))
}

#[test]
fn nothing_set_is_the_default_and_valid() {
    let config = layered(None, Vec::new()).unwrap();
    assert_eq!(config, Config::default());
    config.check(Role::Any).unwrap();
    assert!(config.guests(), "the demo admits guests");
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file_and_that_over_the_default() {
    let text = "[engine]\nshards = 2\nping_every_s = 30\nhandshake_ms_max = 900\n";
    let mut settings = variables(&[
        ("UPROAR__ENGINE__SHARDS", "3"),
        ("UPROAR__ENGINE__PING_EVERY_S", "40"),
        ("PATH", "/bin"),
    ]);
    settings.push((Origin::flag("engine.shards"), "4".into()));
    let config = layered(Some(("a.toml", text)), settings).unwrap();
    assert_eq!(config.engine.shards, 4, "flag");
    assert_eq!(config.engine.ping_every_s, 40, "environment");
    assert_eq!(config.engine.handshake_ms_max, 900, "file");
    assert_eq!(config.engine.rooms, Config::default().engine.rooms, "default");
}

#[test]
fn a_variable_reaches_every_kind_of_key() {
    let config = with_variables(&[
        ("UPROAR__ENGINE__LISTEN", "127.0.0.1:9000"),
        ("UPROAR__ENGINE__CORES", "0,1"),
        ("UPROAR__ENGINE__IO", "epoll"),
        ("UPROAR__ENGINE__ORIGINS", r#"["https://a.example"]"#),
        ("UPROAR__ENGINE__TOKENS__GUESTS", "true"),
        ("UPROAR__ENGINE__TOKENS__HS256_SECRET", "1234"),
        ("UPROAR__ENGINE__ROOMS__WINDOW", "500"),
        ("UPROAR__ENGINE__ROOMS__DEFAULTS__RATE_PER_S", "50"),
        ("UPROAR__HTTP__API_KEY", "a=b#c d"),
        ("UPROAR__HTTP__METRICS_OPEN", "false"),
        ("UPROAR__LOG__FILTER", "debug"),
    ])
    .unwrap();
    assert_eq!(config.engine.listen, "127.0.0.1:9000".parse().unwrap());
    assert_eq!(config.engine.cores, [0, 1]);
    assert_eq!(config.engine.io, uproar_engine::config::IoChoice::Epoll);
    assert_eq!(config.engine.origins, ["https://a.example"]);
    assert_eq!(config.engine.tokens.guests, Some(true));
    assert_eq!(config.engine.tokens.hs256_secret, "1234", "digits stay text where text is meant");
    assert_eq!(config.engine.rooms.window, uproar_engine::config::Window::FixedMs(500));
    assert_eq!(config.engine.rooms.defaults.rate_per_s, 50);
    assert_eq!(config.http.api_key, "a=b#c d");
    assert!(!config.http.metrics_open);
    assert_eq!(config.log.filter, "debug");
    let word = with_variables(&[("UPROAR__ENGINE__ROOMS__WINDOW", "adaptive")]).unwrap();
    assert_eq!(word.engine.rooms.window, uproar_engine::config::Window::Adaptive);
}

#[test]
fn an_unknown_key_in_a_file_is_named_with_its_line() {
    let text = "[engine]\nshards = 2\n\n[engine.rooms]\ndeadlin_ms = 5\n";
    let error = layered(Some(("a.toml", text)), Vec::new()).unwrap_err();
    for part in ["a.toml", "line 5", "deadlin_ms", "`deadline_ms`"] {
        assert!(error.contains(part), "{part:?} is missing in: {error}");
    }
    let error = layered(Some(("a.toml", "[engin]\n")), Vec::new()).unwrap_err();
    assert!(error.contains("line 1") && error.contains("`engine`"), "{error}");
}

#[test]
fn a_wrong_type_in_a_file_is_shown_with_its_line() {
    let error = layered(Some(("a.toml", "[http]\nlisten = 7480\n")), Vec::new()).unwrap_err();
    assert!(error.contains("line 2"), "{error}");
    let error = layered(Some(("a.toml", "[http\n")), Vec::new()).unwrap_err();
    assert!(error.contains("a.toml") && error.contains("line 1"), "{error}");
}

#[test]
fn only_what_looks_like_a_setting_is_taken_for_a_misspelt_one() {
    let warnings = |name: &str| super::misspelt([(name.into(), "1".into())].into_iter());
    for fine in ["UPROAR__ENGINE__SHARDS", "UPROAR_CONFIG", "UPROAR_SIM_SEEDS", "UPROAR_PORT", "X"]
    {
        assert_eq!(warnings(fine), Vec::<String>::new(), "{fine}");
    }
    assert!(warnings("UPROAR_HTTP__API_KEY")[0].ends_with("UPROAR__HTTP__API_KEY"));
    for section in Table::try_from(Config::default()).unwrap().keys() {
        let section = section.to_uppercase();
        let told = warnings(&format!("UPROAR_{section}_KEY"));
        assert!(told[0].ends_with(&format!("UPROAR__{section}__KEY")), "{told:?}");
        let told = warnings(&format!("UPROAR_{section}"));
        assert!(told[0].ends_with(&format!("UPROAR__{section}")), "{told:?}");
    }
}

#[test]
fn an_unknown_variable_is_named() {
    let error = with_variables(&[("UPROAR__ENGINE__LISTN", "127.0.0.1:1")]).unwrap_err();
    for part in ["UPROAR__ENGINE__LISTN", "unknown field `listn`", "`listen`"] {
        assert!(error.contains(part), "{part:?} is missing in: {error}");
    }
    let error = with_variables(&[("UPROAR__ENGINE__SHARDS", "many")]).unwrap_err();
    assert!(error.contains("UPROAR__ENGINE__SHARDS") && error.contains("many"), "{error}");
    let error = with_variables(&[("UPROAR__LOG", "debug")]).unwrap_err();
    assert!(error.contains("UPROAR__LOG"), "{error}");
    let error = with_variables(&[("UPROAR__ENGINE__LISTEN__PORT", "1")]).unwrap_err();
    assert!(error.contains("UPROAR__ENGINE__LISTEN__PORT"), "{error}");
}

#[test]
fn variables_that_a_container_platform_sets_are_left_alone() {
    let list = [("UPROAR_SERVICE_HOST", "10.0.0.1"), ("UPROAR_HTTP_PORT", "tcp://10.0.0.1:80")];
    assert_eq!(with_variables(&list).unwrap(), Config::default());
}

#[test]
fn a_value_cannot_bring_in_other_keys() {
    let error = with_variables(&[("UPROAR__ENGINE__SHARDS", "1\nother = 2")]).unwrap_err();
    assert!(error.contains("UPROAR__ENGINE__SHARDS"), "{error}");
}

#[test]
fn other_machines_are_served_only_with_a_key_or_on_purpose() {
    let mut config = Config::default();
    config.engine.listen = "0.0.0.0:7400".parse().unwrap();
    let error = config.check(Role::Any).unwrap_err();
    for part in ["0.0.0.0:7400", "engine.tokens.hs256_secret", "engine.tokens.guests = true"] {
        assert!(error.contains(part), "{part:?} is missing in: {error}");
    }
    config.engine.tokens.guests = Some(true);
    config.check(Role::Any).unwrap();
    config.engine.tokens = uproar_engine::config::Tokens::default();
    config.engine.tokens.hs256_secret = crate::secrets::secret_text(&[7; 32]);
    config.check(Role::Any).unwrap();
    assert!(!config.guests(), "with a key, guests are admitted only on purpose");
}

#[test]
fn what_does_not_concern_a_process_is_no_error_there() {
    let with = |list: &[(&str, &str)], role| with_variables(list).unwrap().check(role);
    let secret = crate::secrets::secret_text(&[7; 32]);
    let key = ("UPROAR__LINK__KEY", "0123456789abcdef");
    let token = ("UPROAR__ENGINE__TOKENS__HS256_SECRET", &*secret);
    // Where clients connect is nothing to control, where engines connect nothing to one process.
    let open = ("UPROAR__ENGINE__LISTEN", "0.0.0.0:7400");
    with(&[open, key, token, ("UPROAR__ENGINE__TOKENS__GUESTS", "false")], Role::Control).unwrap();
    with(&[("UPROAR__LINK__LISTEN", "0.0.0.0:1")], Role::Serve).unwrap();
    with(&[("UPROAR__STORE__URL", ""), key], Role::Engine).unwrap();
    for (list, role, part) in [
        (&[token][..], Role::Control, "link.key is not set"),
        (&[token], Role::Engine, "link.key is not set"),
        (&[key], Role::Control, "no token key is set"),
        (&[key, token, ("UPROAR__STORE__URL", "")], Role::Control, "store.url is empty"),
        (&[key, open], Role::Engine, "engine.listen is 0.0.0.0:7400"),
        (&[("UPROAR__LINK__LISTEN", "0.0.0.0:1")], Role::Any, "link.listen is 0.0.0.0:1"),
        (&[key, ("UPROAR__LINK__CONTROL", "a:1")], Role::Engine, "link.control is \"a:1\""),
    ] {
        let error = with(list, role).unwrap_err();
        assert!(error.contains(part), "{part:?} is missing in: {error}");
    }
}

#[test]
fn a_configuration_that_admits_nobody_is_refused() {
    let mut config = Config::default();
    config.engine.tokens.guests = Some(false);
    assert!(config.check(Role::Any).unwrap_err().contains("nobody could connect"));
}

#[test]
fn a_broken_rule_names_the_key_with_its_section() {
    let broken = |key: &str, value: &str| {
        let settings = vec![(Origin::flag(key), value.to_owned())];
        layered(None, settings).unwrap().check(Role::Any).unwrap_err()
    };
    assert!(broken("engine.rooms.deadline_ms", "5").starts_with("engine.rooms.deadline_ms is 5;"));
    assert!(broken("http.bulk_messages_max", "0").starts_with("http.bulk_messages_max is 0;"));
    assert!(broken("engine.tokens.hs256_secret", "x").starts_with("engine.tokens.hs256_secret"));
    assert!(broken("engine.tokens.eddsa_public_key", "x").contains("eddsa_public_key"));
    assert!(broken("http.eddsa_private_key", "x").starts_with("http.eddsa_private_key"));
    assert!(broken("pages.room", "a b").starts_with("pages.room is \"a b\"; a room name is"));
    assert!(broken("pages.video_url", "file:///x").starts_with("pages.video_url is"));
    assert!(broken("log.filter", "uproar=loud").starts_with("log.filter is"));
}

#[test]
fn an_open_registration_needs_a_store_and_a_key_that_signs() {
    let open = ("UPROAR__ACCOUNTS__REGISTRATION_OPEN", "true");
    let secret = crate::secrets::secret_text(&[7; 32]);
    let key = ("UPROAR__ENGINE__TOKENS__HS256_SECRET", secret.as_str());
    let check = |list: &[(&str, &str)], role| with_variables(list).unwrap().check(role);
    check(&[open, key], Role::Serve).unwrap();
    check(&[open], Role::Engine).unwrap_err(); // for the link it lacks alone
    let error = check(&[open], Role::Serve).unwrap_err();
    assert!(error.starts_with("accounts.registration_open is true, but no key"), "{error}");
    let error = check(&[open, key, ("UPROAR__STORE__URL", "")], Role::Serve).unwrap_err();
    assert!(error.contains("store.url is empty"), "{error}");
}

#[test]
fn webhooks_are_checked_hidden_and_need_something_to_tell() {
    let hook = "[[webhooks]]\nname = \"audit\"\nurl = \"https://a.example/\"\n\
                secret = \"a-secret-of-24-letters!!\"\nevents = [\"message.after\"]\n";
    let token =
        format!("[engine.tokens]\nhs256_secret = \"{}\"\n", crate::secrets::secret_text(&[7; 32]));
    let read = |text: String| layered(Some(("a.toml", &text)), Vec::new());
    let config = read(format!("{token}{hook}")).unwrap();
    config.check(Role::Serve).unwrap();
    assert_eq!(config.webhooks[0].name, "audit");
    let hidden = config.show(false).unwrap();
    assert!(!hidden.contains("a-secret-of"), "{hidden}");
    assert_eq!(toml::from_str::<Config>(&config.show(true).unwrap()).unwrap(), config);
    let error = read(hook.to_owned()).unwrap().check(Role::Serve).unwrap_err();
    assert!(error.contains("no token key (engine.tokens.hs256_secret"), "{error}");
    let error = read(format!("{token}{hook}[store]\nurl = \"\"\n"))
        .unwrap()
        .check(Role::Serve)
        .unwrap_err();
    assert!(error.contains("store.url is empty"), "{error}");
    let error =
        read(format!("{token}{hook}timeout_ms = 1\n")).unwrap().check(Role::Serve).unwrap_err();
    assert!(error.starts_with("webhooks[0].timeout_ms is 1;"), "{error}");
    let error = read(format!("{token}{}", hook.replace("message.after", "messages"))).unwrap_err();
    for part in ["a.toml", "line 7", "messages", "`message.after`"] {
        assert!(error.contains(part), "{part:?} is missing in: {error}");
    }
    // Who is only asked about rooms needs neither; a room that asks needs somebody.
    let asked = hook.replace("message.after", "publish.before");
    read(asked.clone()).unwrap().check(Role::Serve).unwrap();
    let asks = "[engine.rooms.defaults]\nbefore_publish = \"closed\"\n";
    read(format!("{asked}{asks}")).unwrap().check(Role::Serve).unwrap();
    let error = read(asks.to_owned()).unwrap().check(Role::Serve).unwrap_err();
    assert!(error.contains("before_publish is not \"off\", but no entry of webhooks"), "{error}");
    read(asks.to_owned()).unwrap().check(Role::Engine).unwrap_err(); // for the link it lacks alone
    // In a variable, as a list of TOML.
    let list = "[{name=\"b\",url=\"https://b.example/\",secret=\"0123456789abcdef\",\
                events=[\"presence\"]}]";
    assert_eq!(with_variables(&[("UPROAR__WEBHOOKS", list)]).unwrap().webhooks[0].name, "b");
}

#[test]
fn what_is_shown_can_be_read_again_and_hides_secrets() {
    let mut config = Config::default();
    config.engine.tokens.hs256_secret = crate::secrets::secret_text(&[7; 32]);
    config.http.api_key = "a-key-of-20-letters!".into();
    config.link.key = "a-link-of-21-letters!".into();
    config.engine.cores = vec![0, 1];
    let shown = config.show(true).unwrap();
    assert_eq!(toml::from_str::<Config>(&shown).unwrap(), config);
    let hidden = config.show(false).unwrap();
    assert!(!hidden.contains(&config.engine.tokens.hs256_secret), "{hidden}");
    assert!(!hidden.contains(&config.http.api_key), "{hidden}");
    assert!(!hidden.contains(&config.link.key), "{hidden}");
    assert!(hidden.contains("--secrets shows it"), "{hidden}");
}

#[test]
fn the_example_file_holds_exactly_the_defaults() {
    let shown = |config: Config| config.show(true).unwrap();
    let (example, default) = (shown(toml::from_str(EXAMPLE).unwrap()), shown(Config::default()));
    for (example, default) in example.lines().zip(default.lines()) {
        assert_eq!(example, default, "uproar.toml, and the default in the code");
    }
    assert_eq!(toml::from_str::<Config>(EXAMPLE).unwrap(), Config::default());
}

/// Every key as `section.key`, from the defaults themselves; `unset` ones have no value where
/// nothing is set.
fn every_key() -> BTreeSet<String> {
    fn walk(prefix: &str, table: &Table, keys: &mut BTreeSet<String>) {
        for (name, value) in table {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            match value {
                Value::Table(inner) if !path.ends_with(".attributes") => walk(&path, inner, keys),
                _ => drop(keys.insert(path)),
            }
        }
    }
    let unset = ["engine.tokens.guests", "engine.rooms.defaults.followers_only_s"];
    let mut keys = BTreeSet::from(unset.map(str::to_owned));
    walk("", &Table::try_from(Config::default()).unwrap(), &mut keys);
    keys
}

#[test]
fn the_example_file_documents_every_key_and_no_other() {
    let mut section = String::new();
    let mut documented = BTreeSet::new();
    let mut words_before = 0;
    for line in EXAMPLE.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
            words_before = 0;
            continue;
        }
        // A key without a default stands commented out, directly after the `#`.
        let setting = line.strip_prefix('#').unwrap_or(line);
        let key = setting.split_once(" = ").map(|(key, _)| key);
        let path = |key: &str| match section.as_str() {
            "" => key.to_owned(),
            section => format!("{section}.{key}"),
        };
        let is_key = |key: &str| {
            key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        match key.filter(|key| is_key(key)) {
            Some(key) => {
                let key = path(key);
                assert!(words_before >= 4, "{key} is not explained above its line");
                assert!(documented.insert(key.clone()), "{key} twice");
                words_before = 0;
            }
            None if line.starts_with("# ") => words_before += line.split_whitespace().count() - 1,
            None => {}
        }
    }
    let every = every_key();
    let missing: Vec<_> = every.difference(&documented).collect();
    let unknown: Vec<_> = documented.difference(&every).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing {missing:?}, unknown {unknown:?}");
}
