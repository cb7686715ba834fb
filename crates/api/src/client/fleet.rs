//! Devices and rollouts.

use edgewright_model::digest::Digest;
use edgewright_model::names::{DeviceId, SourceName};

use reqwest::Method;

use super::{Client, ClientError, RESPONSE_LIMIT, decode};
use crate::{
    DeviceIdentity, DevicePost, DeviceReportView, DeviceReports, DeviceReportsResponse, DeviceSummary,
    DeviceView, EnrolPost, EnrolmentPost, EnrolmentView, QuarantinePost, QuarantineView, RolloutDeviceView,
    RolloutPost, RolloutSummary, RolloutView, routes,
};

impl Client {
    /// Sends reports of a device. Those that the server has already change nothing.
    pub async fn post_device_reports(
        &self,
        device: &DeviceId,
        reports: &DeviceReports,
    ) -> Result<DeviceReportsResponse, ClientError> {
        let request = self.request(Method::POST, &routes::device_reports(device), &[]).json(reports);
        decode(self.send(request.timeout(RESPONSE_LIMIT)).await?).await
    }

    /// The devices.
    pub async fn devices(&self, source: Option<&SourceName>) -> Result<Vec<DeviceSummary>, ClientError> {
        self.list(routes::DEVICES, source, &[], None).await
    }

    /// One device.
    pub async fn device(&self, device: &DeviceId) -> Result<DeviceView, ClientError> {
        self.get(&routes::device(device), &[]).await
    }

    /// Changes a device.
    pub async fn change_device(
        &self,
        device: &DeviceId,
        post: &DevicePost,
    ) -> Result<DeviceView, ClientError> {
        let request = self.request(Method::POST, &routes::device(device), &[]).json(post);
        decode(self.send(request.timeout(RESPONSE_LIMIT)).await?).await
    }

    /// Gives a device another credential.
    pub async fn rotate_device(&self, device: &DeviceId) -> Result<DeviceIdentity, ClientError> {
        self.post(&routes::device_credential(device)).await
    }

    /// Makes an enrolment token.
    pub async fn make_enrolment(&self, post: &EnrolmentPost) -> Result<EnrolmentView, ClientError> {
        let request = self.request(Method::POST, routes::ENROLMENTS, &[]).json(post);
        decode(self.send(request.timeout(RESPONSE_LIMIT)).await?).await
    }

    /// Exchanges an enrolment token for a device's identity.
    pub async fn enrol(&self, post: &EnrolPost) -> Result<DeviceIdentity, ClientError> {
        let request = self.request(Method::POST, routes::ENROL, &[]).json(post);
        decode(self.send(request.timeout(RESPONSE_LIMIT)).await?).await
    }

    /// The reports of a device, newest first, at most `limit`.
    pub async fn device_reports(
        &self,
        device: &DeviceId,
        limit: u32,
    ) -> Result<Vec<DeviceReportView>, ClientError> {
        self.get(&routes::device_reports(device), &[("limit", Some(limit.to_string()))]).await
    }

    /// The rollouts, newest first.
    pub async fn rollouts(
        &self,
        source: Option<&SourceName>,
        limit: u32,
    ) -> Result<Vec<RolloutSummary>, ClientError> {
        self.list(routes::ROLLOUTS, source, &[], Some(limit)).await
    }

    /// One rollout, by its number or its channel's name.
    pub async fn rollout(&self, name: &str, source: Option<&SourceName>) -> Result<RolloutView, ClientError> {
        self.get(&routes::rollout(name), &[("source", source.map(ToString::to_string))]).await
    }

    /// Gives an order to a rollout.
    pub async fn order_rollout(
        &self,
        name: &str,
        source: Option<&SourceName>,
        post: &RolloutPost,
    ) -> Result<RolloutView, ClientError> {
        let query = [("source", source.map(ToString::to_string))];
        let request = self.request(Method::POST, &routes::rollout(name), &query).json(post);
        decode(self.send(request.timeout(RESPONSE_LIMIT)).await?).await
    }

    /// The devices of a rollout, or one of them.
    pub async fn rollout_devices(
        &self,
        name: &str,
        source: Option<&SourceName>,
        device: Option<&DeviceId>,
    ) -> Result<Vec<RolloutDeviceView>, ClientError> {
        let query =
            [("source", source.map(ToString::to_string)), ("device", device.map(ToString::to_string))];
        self.get(&routes::rollout_devices(name), &query).await
    }

    /// The quarantined digests.
    pub async fn quarantine(&self) -> Result<Vec<QuarantineView>, ClientError> {
        self.get(routes::QUARANTINE, &[]).await
    }

    /// Ends the quarantine of a digest. Returns what remains.
    pub async fn clear_quarantine(&self, digest: &Digest) -> Result<Vec<QuarantineView>, ClientError> {
        let post = QuarantinePost { clear: digest.clone() };
        let request = self.request(Method::POST, routes::QUARANTINE, &[]).json(&post);
        decode(self.send(request.timeout(RESPONSE_LIMIT)).await?).await
    }
}
