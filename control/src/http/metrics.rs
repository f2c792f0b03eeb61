//! `/metrics`: the engine's figures, the process's and this server's own, as Prometheus text.

use super::Context;
use super::errors::ErrorBody;
use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::IntoResponse;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use uproar_proto::control::{Sample, SampleKind, SampleValue};
use uproar_proto::issuers::Issuers;

/// The text format's version 0.0.4.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Requests by route, method and status: bounded, since routes are those of the router.
#[derive(Default)]
pub(crate) struct Requests {
    counts: Mutex<BTreeMap<(String, &'static str, u16), u64>>,
}

impl Requests {
    /// Counts one request that was answered.
    pub(crate) fn count(&self, route: &str, method: &Method, status: StatusCode) {
        let known =
            [Method::GET, Method::PUT, Method::POST, Method::PATCH, Method::DELETE, Method::HEAD];
        let names = ["GET", "PUT", "POST", "PATCH", "DELETE", "HEAD"];
        let place = known.iter().position(|one| one == method);
        let method = place.map_or("other", |i| names[i]);
        let key = (route.to_owned(), method, status.as_u16());
        // A count is whole at every moment: one whose holder panicked is still right.
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(key).or_default() += 1;
    }

    fn samples(&self) -> Vec<Sample> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let sample =
            |((route, method, status), count): (&(String, &'static str, u16), &u64)| Sample {
                name: "uproar_http_requests_total",
                help: "HTTP requests answered.",
                kind: SampleKind::Counter,
                labels: vec![
                    ("route", route.clone()),
                    ("method", (*method).to_owned()),
                    ("status", status.to_string()),
                ],
                value: SampleValue::Number(*count as f64),
            };
        counts.iter().map(sample).collect()
    }
}

/// Every figure of the node, as Prometheus text.
#[utoipa::path(get, path = "/metrics", tag = "node",
    responses((status = 200, description = "Prometheus text", content_type = "text/plain"),
        (status = 401, body = ErrorBody,
            description = "http.metrics_open is false, and the API key is missing or wrong")))]
pub(crate) async fn metrics(State(shared): Context) -> impl IntoResponse {
    let mut samples = shared.api.engine.metrics();
    samples.extend(crate::process::samples(shared.started_unix_s));
    samples.extend(crate::guard::samples());
    samples.extend(shared.requests.samples());
    samples.extend(shared.quality.samples());
    samples.extend(shared.audit.samples());
    samples.extend(fetches(&shared.api.issuers));
    samples.extend(shared.api.figures.iter().flat_map(|figures| figures()));
    if let Some(accounts) = &shared.accounts {
        samples.extend(accounts.samples());
    }
    if let Some(conversations) = &shared.api.conversations {
        samples.extend(conversations.samples());
    }
    if let Some(blocks) = &shared.api.blocks {
        samples.extend(blocks.samples());
    }
    if let Some(filters) = &shared.api.filters {
        samples.extend(filters.samples());
    }
    if let Some(danmaku) = &shared.api.danmaku {
        samples.extend(danmaku.samples());
    }
    if let Some(store) = &shared.api.store {
        samples.extend(store.samples());
    }
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], render(&samples))
}

/// Fetches of issuers' keys; nothing for those whose key is configured.
fn fetches(issuers: &Issuers) -> Vec<Sample> {
    let mut samples = Vec::new();
    for issuer in issuers.list().iter().filter(|one| !one.settings().jwks_url.is_empty()) {
        let (ok, failed) = issuer.fetches();
        for (result, count) in [("ok", ok), ("failed", failed)] {
            let name = issuer.settings().name.clone();
            samples.push(Sample {
                name: "uproar_issuer_key_fetches_total",
                help: "Fetches of an issuer's keys, by result.",
                kind: SampleKind::Counter,
                labels: vec![("issuer", name), ("result", result.to_owned())],
                value: SampleValue::Number(count as f64),
            });
        }
    }
    samples
}

/// Families in the order of their first sample; all samples of a family stand together, as the
/// format asks.
fn render(samples: &[Sample]) -> String {
    let mut families: Vec<(&str, Vec<&Sample>)> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for sample in samples {
        let place = *places.entry(sample.name).or_insert_with(|| {
            families.push((sample.name, Vec::new()));
            families.len() - 1
        });
        families[place].1.push(sample);
    }
    let mut out = String::with_capacity(samples.len() * 96);
    for (name, samples) in families {
        let first = samples[0];
        let kind = match first.kind {
            SampleKind::Counter => "counter",
            SampleKind::Gauge => "gauge",
            SampleKind::Histogram => "histogram",
        };
        let help = first.help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for sample in samples {
            render_sample(&mut out, sample);
        }
    }
    out
}

fn render_sample(out: &mut String, sample: &Sample) {
    let Sample { name, labels, value, .. } = sample;
    match value {
        SampleValue::Number(value) => {
            let labels = label_text(labels, None);
            let _ = writeln!(out, "{name}{labels} {}", number(*value));
        }
        SampleValue::Histogram { buckets, sum, count } => {
            for (bound, at_most) in buckets {
                let labels = label_text(labels, Some(&number(*bound)));
                let _ = writeln!(out, "{name}_bucket{labels} {at_most}");
            }
            let all = label_text(labels, Some("+Inf"));
            let _ = writeln!(out, "{name}_bucket{all} {count}");
            let labels = label_text(labels, None);
            let _ = writeln!(out, "{name}_sum{labels} {}", number(*sum));
            let _ = writeln!(out, "{name}_count{labels} {count}");
        }
    }
}

fn label_text(labels: &[(&'static str, String)], bound: Option<&str>) -> String {
    let mut parts: Vec<String> = labels
        .iter()
        .map(|(name, value)| {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            format!("{name}=\"{value}\"")
        })
        .collect();
    parts.extend(bound.map(|bound| format!("le=\"{bound}\"")));
    if parts.is_empty() { String::new() } else { format!("{{{}}}", parts.join(",")) }
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".into() } else { "-Inf".into() }
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(name: &'static str, labels: Vec<(&'static str, String)>, value: f64) -> Sample {
        let value = SampleValue::Number(value);
        Sample { name, help: "A help.", kind: SampleKind::Counter, labels, value }
    }

    #[test]
    fn a_family_stands_together_under_one_head() {
        let text = render(&[
            counter("a_total", vec![("shard", "0".into())], 1.0),
            counter("b_total", vec![], 2.5),
            counter("a_total", vec![("shard", "1".into())], 3.0),
        ]);
        assert_eq!(
            text,
            "# HELP a_total A help.\n# TYPE a_total counter\n\
             a_total{shard=\"0\"} 1\na_total{shard=\"1\"} 3\n\
             # HELP b_total A help.\n# TYPE b_total counter\nb_total 2.5\n"
        );
    }

    #[test]
    fn help_and_labels_are_escaped() {
        let mut sample = counter("a", vec![("l", "q\" b\\ n\n".into())], 1.0);
        sample.help = "b\\ n\n q\"";
        let text = render(&[sample]);
        assert!(text.starts_with("# HELP a b\\\\ n\\n q\"\n"), "{text}");
        assert!(text.ends_with("a{l=\"q\\\" b\\\\ n\\n\"} 1\n"), "{text}");
    }

    #[test]
    fn a_histogram_ends_with_infinity_sum_and_count() {
        let sample = Sample {
            name: "t_seconds",
            help: "Times.",
            kind: SampleKind::Histogram,
            labels: vec![("shard", "0".into())],
            value: SampleValue::Histogram {
                buckets: vec![(0.001, 2), (0.5, 5)],
                sum: 1.25,
                count: 6,
            },
        };
        assert_eq!(
            render(&[sample]),
            "# HELP t_seconds Times.\n# TYPE t_seconds histogram\n\
             t_seconds_bucket{shard=\"0\",le=\"0.001\"} 2\n\
             t_seconds_bucket{shard=\"0\",le=\"0.5\"} 5\n\
             t_seconds_bucket{shard=\"0\",le=\"+Inf\"} 6\n\
             t_seconds_sum{shard=\"0\"} 1.25\nt_seconds_count{shard=\"0\"} 6\n"
        );
    }

    #[test]
    fn odd_numbers_have_the_formats_names() {
        assert_eq!(number(f64::INFINITY), "+Inf");
        assert_eq!(number(f64::NEG_INFINITY), "-Inf");
        assert_eq!(number(f64::NAN), "NaN");
        assert_eq!(number(1e15), "1000000000000000");
    }
}
