//! The description of the interface as a contract: every answer any test here gets is held against
//! it. A status, a content type or a body that the description does not have fails the test.

use crate::client::Answer;
use serde_json::Value;
use std::sync::LazyLock;

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(uproar_control::openapi_json()).unwrap());

/// The description.
pub(crate) fn document() -> &'static Value {
    &DOCUMENT
}

/// An operation of the description.
#[derive(Clone, Copy)]
pub(crate) struct Operation {
    /// In small letters.
    pub(crate) method: &'static str,
    pub(crate) template: &'static str,
    pub(crate) about: &'static Value,
}

impl Operation {
    pub(crate) fn needs(&self, scheme: &str) -> bool {
        self.about["security"].as_array().into_iter().flatten().any(|one| one.get(scheme).is_some())
    }

    pub(crate) fn has_body(&self) -> bool {
        self.about.get("requestBody").is_some()
    }

    pub(crate) fn statuses(&self) -> Vec<u16> {
        let responses = self.about["responses"].as_object().unwrap();
        responses.keys().map(|status| status.parse().unwrap()).collect()
    }
}

/// All of them.
pub(crate) fn operations() -> Vec<Operation> {
    let mut all = Vec::new();
    for (template, methods) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, about) in methods.as_object().unwrap() {
            all.push(Operation { method, template, about });
        }
    }
    all
}

/// The operation a request meant; `None`: a path or a method that is not described.
pub(crate) fn operation(method: &str, path: &str) -> Option<Operation> {
    let path = path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.split('/').collect();
    let is_variable = |part: &str| part.starts_with('{');
    let fits = |template: &str| {
        let of: Vec<&str> = template.split('/').collect();
        let same = |(of, part): (&&str, &&str)| of == part || (is_variable(of) && !part.is_empty());
        of.len() == parts.len() && of.iter().zip(&parts).all(same)
    };
    let method = method.to_lowercase();
    let fitting = operations().into_iter().filter(|one| fits(one.template));
    // A word of the path goes before a variable.
    let best = fitting.min_by_key(|one| {
        let first_variable = one.template.split('/').position(is_variable);
        std::cmp::Reverse(first_variable.unwrap_or(usize::MAX))
    })?;
    operations().into_iter().find(|one| one.template == best.template && one.method == method)
}

/// Panics where an answer is not as the description says.
pub(crate) fn check(method: &str, path: &str, answer: &Answer) {
    let Some(operation) = operation(method, path) else { return };
    let what = format!("{method} {path} -> {}: {}", answer.status, answer.body);
    let status = answer.status.to_string();
    let Some(response) = operation.about["responses"].get(&status) else {
        panic!("undocumented: {what}");
    };
    let Some(content) = response["content"].as_object() else {
        assert!(answer.body.is_empty(), "a body that is not described: {what}");
        return;
    };
    let sent = answer.head.lines().find_map(|line| line.strip_prefix("content-type: "));
    let sent = sent.map(|sent| sent.split(';').next().unwrap_or_default().trim());
    let described = content.iter().find(|(kind, _)| Some(kind.as_str()) == sent);
    let Some((kind, described)) = described else {
        panic!("content type {sent:?} of {what}");
    };
    let Some(schema) = described.get("schema") else { return };
    let bodies = if kind == "application/x-ndjson" { answer.body.lines() } else { "".lines() };
    let mut bodies: Vec<&str> = bodies.collect();
    if kind == "application/json" {
        bodies.push(&answer.body);
    }
    for body in bodies {
        let value: Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {what}"));
        if let Some(problem) = problem(&value, schema) {
            panic!("{problem}: {what}");
        }
    }
}

/// What a value has that its schema has not, or lacks that it has.
fn problem(value: &Value, schema: &Value) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
        let of = &DOCUMENT["components"]["schemas"][name];
        assert!(!of.is_null(), "the description has no schema {name}");
        return problem(value, of);
    }
    if let Some(list) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        let problems: Vec<String> = list.iter().filter_map(|one| problem(value, one)).collect();
        return (problems.len() == list.len()).then(|| format!("none of: {problems:?}"));
    }
    assert!(schema.get("allOf").is_none(), "no schema here is put together from others");
    let kinds: Vec<&str> = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    };
    let is = |kind: &&str| match *kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    };
    if !kinds.is_empty() && !kinds.iter().any(is) {
        return Some(format!("{value} is no {kinds:?}"));
    }
    if let Some(words) = schema["enum"].as_array().filter(|words| !words.contains(value)) {
        return Some(format!("{value} is none of {words:?}"));
    }
    if schema["minimum"].as_f64() > value.as_f64() && value.is_number() {
        return Some(format!("{value} is below {}", schema["minimum"]));
    }
    if let (Some(list), Some(items)) = (value.as_array(), schema.get("items")) {
        return list.iter().find_map(|item| problem(item, items));
    }
    value.as_object().and_then(|object| problem_of_object(object, schema))
}

fn problem_of_object(object: &serde_json::Map<String, Value>, schema: &Value) -> Option<String> {
    let required = schema["required"].as_array().into_iter().flatten();
    for name in required.filter_map(Value::as_str) {
        if !object.contains_key(name) {
            return Some(format!("{name} is missing"));
        }
    }
    let more = schema.get("additionalProperties");
    object.iter().find_map(|(name, value)| match (schema["properties"].get(name), more) {
        (Some(of), _) | (None, Some(of)) if of.is_object() => {
            problem(value, of).map(|problem| format!("{name}: {problem}"))
        }
        _ => Some(format!("{name} is not described")),
    })
}

/// The names that types of a folder have in the description.
fn described_types(folder: &std::path::Path, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            described_types(&path, names);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for after in text.split("ToSchema)]\n").skip(1) {
            let head: Vec<&str> = after.lines().take_while(|line| !line.ends_with('{')).collect();
            let renamed = head.iter().find_map(|line| line.trim().strip_prefix("#[schema(as = "));
            let declared = after.lines().find(|line| line.ends_with('{')).unwrap();
            let own = declared.split(' ').rev().nth(1).unwrap();
            names.push(renamed.map_or(own, |name| name.trim_end_matches(")]")).to_owned());
        }
    }
}

#[test]
fn no_two_types_share_a_name_in_the_description() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http");
    let mut names = Vec::new();
    described_types(std::path::Path::new(folder), &mut names);
    names.sort();
    assert!(names.len() > 50 && names.contains(&"PlatformRelation".to_owned()), "{names:?}");
    let twice: Vec<_> = names.windows(2).filter(|two| two[0] == two[1]).collect();
    assert!(twice.is_empty(), "one of them hides the other: {twice:?}");
}

#[test]
fn the_parameters_of_a_path_are_those_in_it() {
    for operation in operations() {
        let listed = operation.about["parameters"].as_array().into_iter().flatten();
        let mut in_path: Vec<&str> = listed
            .filter(|one| one["in"] == "path")
            .map(|one| one["name"].as_str().unwrap())
            .collect();
        let parts = operation.template.split('/');
        let mut meant: Vec<&str> =
            parts.filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        in_path.sort_unstable();
        meant.sort_unstable();
        assert_eq!(in_path, meant, "{} {}", operation.method, operation.template);
    }
}

#[test]
fn what_is_not_as_described_is_found() {
    use serde_json::json;
    let schema = json!({"type": "object", "required": ["a"], "properties": {
        "a": {"type": "integer", "minimum": 0}, "b": {"type": ["string", "null"]},
        "c": {"type": "array", "items": {"enum": ["x"]}},
        "d": {"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/ErrorBody"}]}}});
    for good in [json!({"a": 0}), json!({"a": 1, "b": null, "c": ["x"], "d": null})] {
        assert_eq!(problem(&good, &schema), None);
    }
    for bad in [
        json!({}),
        json!([]),
        json!({"a": -1}),
        json!({"a": 1.5}),
        json!({"a": 1, "b": 2}),
        json!({"a": 1, "c": ["y"]}),
        json!({"a": 1, "d": {"error": {}}}),
        json!({"a": 1, "e": 1}),
    ] {
        assert!(problem(&bad, &schema).is_some(), "{bad}");
    }
    assert_eq!(operation("POST", "/v1/sessions/refresh").unwrap().template, "/v1/sessions/refresh");
    let one = operation("DELETE", "/v1/sessions/7?x=1").unwrap();
    assert_eq!(one.template, "/v1/sessions/{session}");
    assert!(operation("GET", "/v1/sessions/7").is_none() && operation("GET", "/v1/x").is_none());
}
