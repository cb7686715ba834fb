//! What devices download: which manifests and blobs were sent to their end. A download ends when its device
//! is revoked.
//!
//! A response counts when its last byte was handed to the connection. A range counts if it is the last part:
//! clients resume where the part before ended.

use std::net::SocketAddr;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderName, Method, Response, StatusCode, header};
use edgewright_control::context::OperationContext;
use edgewright_control::devices::{Devices, VIRTUAL};
use edgewright_model::Digest;
use edgewright_model::names::DeviceId;
use edgewright_model::principal::Principal;
use futures::StreamExt as _;

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A device's request for content.
pub(super) struct Traffic {
    devices: Devices,
    device: DeviceId,
}

impl Traffic {
    /// The request of a device for a manifest or a blob; none for all others.
    pub(super) fn of(request: &Request, devices: &Devices) -> Option<Self> {
        let rest = request.uri().path().strip_prefix("/v2/")?;
        let is_content = rest.contains("/manifests/") || rest.contains("/blobs/");
        let is_device = rest.split('/').next() == Some(VIRTUAL);
        if *request.method() != Method::GET || !is_content || !is_device {
            return None;
        }
        match request.extensions().get::<OperationContext>()?.actor() {
            Principal::Device { id: Some(device) } => {
                if let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>() {
                    devices.came(device, peer.ip().to_canonical());
                }
                Some(Self { devices: devices.clone(), device: device.clone() })
            }
            _ => None,
        }
    }

    /// The response, which notes its end, and which is cut if the device is revoked meanwhile.
    pub(super) fn follow(self, response: Response<Body>) -> Response<Body> {
        let digest = text(&response, &CONTENT_DIGEST).and_then(|digest| digest.parse::<Digest>().ok());
        let length = text(&response, &header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        let is_last = match response.status() {
            StatusCode::OK => true,
            StatusCode::PARTIAL_CONTENT => text(&response, &header::CONTENT_RANGE).is_some_and(is_last_part),
            _ => false,
        };
        if !response.status().is_success() {
            return response;
        }
        let counted = digest.zip(length).filter(|_| is_last);
        response.map(|body| {
            let mut sent = 0_u64;
            Body::from_stream(body.into_data_stream().map(move |chunk| {
                if !self.devices.is_served(&self.device) {
                    tracing::info!(device.id = %self.device, "cutting a download of a device that was revoked");
                    return Err(axum::Error::new(std::io::Error::other("the device was revoked")));
                }
                let bytes = chunk.as_ref().map(Bytes::len).unwrap_or_default();
                let before = sent;
                sent += bytes as u64;
                // The connection does not ask for more than the length: the end is noticed by counting.
                if let Some((digest, length)) = &counted
                    && before < *length
                    && sent >= *length
                {
                    self.devices.sent(&self.device, digest);
                }
                chunk
            }))
        })
    }
}

fn text<'a>(response: &'a Response<Body>, name: &HeaderName) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// Whether a `Content-Range` (RFC 9110, 14.4) ends with the last byte.
fn is_last_part(range: &str) -> bool {
    let Some((part, total)) = range.trim_start_matches("bytes ").split_once('/') else { return false };
    let last = part.split_once('-').and_then(|(_, last)| last.trim().parse::<u64>().ok());
    let total = total.trim().parse::<u64>().ok();
    last.zip(total).is_some_and(|(last, total)| last.checked_add(1) == Some(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_of_a_blob_ends_with_its_last_byte() {
        for (range, expected) in [
            ("bytes 0-9/10", true),
            ("bytes 5-9/10", true),
            ("bytes 0-8/10", false),
            ("bytes 0-9/*", false),
            ("bytes */10", false),
            ("nonsense", false),
        ] {
            assert_eq!(is_last_part(range), expected, "{range}");
        }
    }
}
