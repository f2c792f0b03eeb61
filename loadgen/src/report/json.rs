//! The result as JSON: one flat object, every figure a number (`null` where it is infinite or not
//! known), for scripts and comparisons.

use super::{Report, Value};
use serde_json::{Map, Number, Value as Json, json as value};

/// The whole report.
pub(crate) fn json(report: &Report) -> Json {
    let mut object = Map::new();
    object.insert("scenario".into(), value!(report.scenario));
    object.insert("verdict".into(), value!(report.verdict().name()));
    for (key, _, text) in &report.setup {
        object.insert((*key).to_owned(), value!(text));
    }
    for figure in report.figures() {
        let number = match figure.value {
            Value::Count(n) => Some(Number::from(n)),
            _ => figure.value.number().and_then(Number::from_f64),
        };
        object.insert(figure.key.clone(), number.map_or(Json::Null, Json::Number));
    }
    object.insert("checks_failed".into(), value!(report.checks_failed()));
    let checks = report.checks.iter();
    let checks: Vec<Json> =
        checks.map(|c| value!({ "name": c.name, "held": c.held, "found": c.found })).collect();
    object.insert("checks".into(), Json::Array(checks));
    object.insert("notes".into(), value!(report.notes));
    Json::Object(object)
}
