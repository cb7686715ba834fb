//! CloudEvents 1.0 over HTTP, in structured or binary mode: <https://github.com/cloudevents/spec>.

use std::fmt::Write as _;

use edgewright_store::outbox::EventRow;
use reqwest::{Client, RequestBuilder, header};
use serde_json::{Value, json};

use super::{EventMode, Sink};

/// The CloudEvents type of a kind of event.
pub fn event_type(kind: &str) -> String {
    match kind {
        "release" => "dev.edgewright.release.created".to_owned(),
        "channel" => "dev.edgewright.channel.moved".to_owned(),
        "verdict" => "dev.edgewright.verdict.awaited".to_owned(),
        other => format!("dev.edgewright.{other}.changed"),
    }
}

/// The event of a row. Every try sends the same bytes: receivers tell repetitions by `source` and `id`.
pub(super) fn event(link: &str, row: &EventRow) -> Value {
    json!({
        "specversion": "1.0",
        // With the time: a database restored from a backup counts again from an earlier number.
        "id": format!("{}-{}", row.id, row.at.as_millisecond()),
        "source": link,
        "type": event_type(&row.kind),
        "subject": row.subject,
        "time": row.at,
        "datacontenttype": "application/json",
        "data": row.data,
    })
}

/// All types of events.
pub fn event_types() -> [String; 7] {
    ["run", "node", "verdict", "release", "channel", "rollout", "target"].map(event_type)
}

pub(super) fn request(sink: &Sink, client: &Client, row: &EventRow) -> RequestBuilder {
    let request = client.post(&sink.url);
    let request = match sink.mode {
        EventMode::Structured => request
            .header(header::CONTENT_TYPE, "application/cloudevents+json; charset=utf-8")
            .body(event(&sink.link, row).to_string()),
        EventMode::Binary => binary(request, &event(&sink.link, row)),
    };
    match &sink.token {
        Some(token) => request.bearer_auth(token),
        None => request,
    }
}

/// An event with its attributes as headers.
fn binary(mut request: RequestBuilder, event: &Value) -> RequestBuilder {
    for name in ["specversion", "id", "source", "type", "subject", "time"] {
        request = request.header(format!("ce-{name}"), encoded(event[name].as_str().unwrap_or_default()));
    }
    request.header(header::CONTENT_TYPE, "application/json").body(event["data"].to_string())
}

/// A value of a header: what is not printable ASCII, and what the binding names, is percent-encoded.
fn encoded(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        match byte {
            // A string takes everything.
            b'"' | b'%' | ..=b' ' | 0x7f.. => drop(write!(text, "%{byte:02X}")),
            printable => text.push(char::from(printable)),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_headers_in_binary_mode() {
        let row = EventRow {
            id: 7,
            at: "2026-11-22T23:00:00.25Z".parse().unwrap(),
            kind: "verdict".to_owned(),
            source: "plants".parse().unwrap(),
            subject: "plants/runs/1/nodes/é \"%".to_owned(),
            data: json!({ "run": 1 }),
        };
        let sink = Sink {
            name: "tests".to_owned(),
            kind: super::super::SinkKind::CloudEvents,
            url: "http://el.example".to_owned(),
            mode: EventMode::Binary,
            types: Vec::new(),
            source: None,
            repository: None,
            token: None,
            link: "http://edge.example".to_owned(),
        };
        let request = request(&sink, &Client::new(), &row).build().unwrap();
        let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("ce-specversion"), "1.0");
        assert_eq!(header("ce-id"), "7-1795388400250");
        assert_eq!(header("ce-type"), "dev.edgewright.verdict.awaited");
        assert_eq!(header("ce-source"), "http://edge.example");
        assert_eq!(header("ce-subject"), "plants/runs/1/nodes/%C3%A9%20%22%25");
        assert_eq!(header("ce-time"), "2026-11-22T23:00:00.25Z");
        assert_eq!(header("content-type"), "application/json");
        assert_eq!(request.body().unwrap().as_bytes().unwrap(), br#"{"run":1}"#);
        let only = Sink { types: vec![event_type("release")], ..sink.clone() };
        assert!(only.request(&Client::new(), &row).is_none());
        let both = Sink { types: event_types().to_vec(), ..sink };
        assert!(both.request(&Client::new(), &row).is_some());
    }

    #[test]
    fn an_event_is_the_same_at_every_try() {
        let row = EventRow {
            id: 7,
            at: "2026-11-22T23:00:00.25Z".parse().unwrap(),
            kind: "run".to_owned(),
            source: "plants".parse().unwrap(),
            subject: "plants/runs/1".to_owned(),
            data: json!({ "run": 1, "state": "passed" }),
        };
        let expected = json!({
            "specversion": "1.0",
            "id": "7-1795388400250",
            "source": "http://edge.example",
            "type": "dev.edgewright.run.changed",
            "subject": "plants/runs/1",
            "time": "2026-11-22T23:00:00.25Z",
            "datacontenttype": "application/json",
            "data": { "run": 1, "state": "passed" },
        });
        assert_eq!(event("http://edge.example", &row), expected);
    }
}
