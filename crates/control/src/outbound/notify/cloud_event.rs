//! CloudEvents 1.0 over HTTP, structured JSON: <https://github.com/cloudevents/spec>.

use edgewright_store::outbox::EventRow;
use reqwest::{Client, RequestBuilder, header};
use serde_json::{Value, json};

use super::Sink;

/// The CloudEvents type of a kind of event.
pub fn event_type(kind: &str) -> String {
    match kind {
        "release" => "dev.edgewright.release.created".to_owned(),
        "channel" => "dev.edgewright.channel.moved".to_owned(),
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

pub(super) fn request(sink: &Sink, client: &Client, row: &EventRow) -> RequestBuilder {
    let request = client
        .post(&sink.url)
        .header(header::CONTENT_TYPE, "application/cloudevents+json; charset=utf-8")
        .body(event(&sink.link, row).to_string());
    match &sink.token {
        Some(token) => request.bearer_auth(token),
        None => request,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
