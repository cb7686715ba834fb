//! The documents that commands print with `--json`: one type each, with its name, version, JSON Schema and
//! example.
//!
//! Every document is an object whose first field is `schema`, such as `edgewright/run-list/v1`. Within a
//! version, fields and values are added, never renamed or given another meaning. The rules that keep names
//! the same everywhere:
//!
//! - A list is an object with its plural noun: `runs`, `images`.
//! - An object that can be listed has the same fields where it is shown alone (`run show`), and more beside
//!   them.
//! - A noun in the singular (`run`, `release`, `image`, `source`) refers to an object by its number or name.
//! - `reason` and `error` are text on one line, `reasons` the parts of a `reason`; a `failure` is an object
//!   with its kind.
//!
//! `docs/reference/json/` is generated from [`DOCUMENTS`].

mod described;
mod doctor;
mod error;
mod folder;
mod lists;
mod reference;
mod rollout;
mod schema;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::ToSchema;

pub use doctor::{DoctorCheck, DoctorReport, DoctorState};
pub use error::{CommandError, ErrorDocument};
pub use folder::{
    ChangeView, ChangedKind, CheckReport, Declared, PlanExplanation, PlanNode, PlanReport,
    PlatformExplanation, StepExplanation, StepState, UpdateReport, VariableView, VariantVars,
};
pub use lists::{
    ChannelList, DeviceList, EvidenceList, ImageList, QuarantineList, ReleaseList, RolloutDeviceList,
    RolloutList, RunList, SiteList, SourceList, UserList,
};
pub use reference::reference;
pub use rollout::{RolloutSimulation, SimulatedRate, SimulatedStage};

use crate::{
    AuditPage, ChannelView, DeviceIdentity, DeviceView, EnrolmentView, Identity, ImageView, RebuildStatus,
    ReleaseView, RolloutView, RunView, ServerStatus, SiteView, VerdictResponse,
};

/// A type that is printed as a document of its own.
pub trait Document: Serialize + DeserializeOwned + ToSchema {
    /// Name, in the singular, with dashes.
    const NAME: &'static str;
    /// Version, from 1: counted up by changes that old readers would misunderstand.
    const VERSION: u32 = 1;
}

/// The value of the field `schema`, such as `edgewright/run-list/v1`.
fn identifier(name: &str, version: u32) -> String {
    format!("edgewright/{name}/v{version}")
}

/// A document with its field `schema`.
#[derive(Debug, Serialize)]
pub struct Tagged<'a, T> {
    schema: String,
    #[serde(flatten)]
    document: &'a T,
}

/// Adds the field `schema` to a document.
pub fn tagged<T: Document>(document: &T) -> Tagged<'_, T> {
    Tagged { schema: identifier(T::NAME, T::VERSION), document }
}

/// One entry of [`DOCUMENTS`].
#[derive(Debug, Clone, Copy)]
pub struct DocumentType {
    /// Name, such as `run-list`.
    pub name: &'static str,
    /// Version, from 1.
    pub version: u32,
    /// Commands that print it, without `--json`; `COMMAND` for any that fails.
    pub commands: &'static [&'static str],
    /// An example, as JSON.
    example: &'static str,
    schema: fn() -> Value,
    reprint: fn(&str) -> serde_json::Result<Value>,
}

impl DocumentType {
    const fn new<T: Document>(commands: &'static [&'static str], example: &'static str) -> Self {
        Self {
            name: T::NAME,
            version: T::VERSION,
            commands,
            example,
            schema: schema::schema::<T>,
            reprint: |text| serde_json::to_value(tagged(&serde_json::from_str::<T>(text)?)),
        }
    }

    /// The value of its field `schema`, such as `edgewright/run-list/v1`.
    pub fn identifier(&self) -> String {
        identifier(self.name, self.version)
    }

    /// The name of its file in `docs/reference/json/`.
    pub fn file_name(&self) -> String {
        format!("{}.v{}.schema.json", self.name, self.version)
    }

    /// Its JSON Schema (draft 2020-12), without the example.
    pub fn schema(&self) -> Value {
        (self.schema)()
    }

    /// Its example, read into its type and printed again.
    ///
    /// # Errors
    /// If the example is not of the document's type.
    pub fn example(&self) -> serde_json::Result<Value> {
        (self.reprint)(self.example)
    }
}

macro_rules! documents {
    ($($type:ty, $name:literal, [$($command:literal),+];)+) => {
        $(impl Document for $type {
            const NAME: &'static str = $name;
        })+

        /// All documents, in the order of the reference.
        pub const DOCUMENTS: &[DocumentType] = &[
            $(DocumentType::new::<$type>(
                &[$($command),+],
                include_str!(concat!("examples/", $name, ".json")),
            ),)+
        ];
    };
}

documents! {
    CheckReport, "check", ["check"];
    VariantVars, "vars", ["vars VARIANT"];
    PlanReport, "plan", ["plan"];
    PlanExplanation, "plan-explanation", ["plan --explain VARIANT", "plan VARIANT"];
    RunView, "run", ["run", "run show NUMBER"];
    RunList, "run-list", ["run list", "runs"];
    EvidenceList, "evidence-list", ["evidence RUN NODE"];
    ImageView, "image", ["image show VARIANT"];
    ImageList, "image-list", ["image list", "images"];
    ReleaseView, "release", ["release show NUMBER"];
    ReleaseList, "release-list", ["release list", "releases"];
    ChannelView, "channel", [
        "channel show CHANNEL", "channel hold CHANNEL", "channel resume CHANNEL", "channel pin CHANNEL",
        "channel unpin CHANNEL", "promote CHANNEL RELEASE", "rollback CHANNEL"
    ];
    ChannelList, "channel-list", ["channel list", "channels"];
    SiteView, "site", ["site show NAME"];
    SiteList, "site-list", ["site list", "sites"];
    DeviceView, "device", [
        "device show DEVICE", "device approve DEVICE", "device hold DEVICE", "device release DEVICE",
        "device pin DEVICE RELEASE", "device unpin DEVICE", "device revoke DEVICE", "device retire DEVICE"
    ];
    DeviceList, "device-list", ["device list", "devices"];
    EnrolmentView, "enrolment", ["device enrol SLOT", "device replace SLOT"];
    DeviceIdentity, "device-identity", ["device rotate DEVICE"];
    SourceList, "source-list", ["source list"];
    ServerStatus, "status", ["status"];
    AuditPage, "audit", ["audit"];
    UserList, "user-list", ["user list"];
    Identity, "identity", ["whoami"];
    UpdateReport, "update", ["update"];
    RebuildStatus, "rebuild", ["rebuild DIGEST", "rebuild VARIANT"];
    VerdictResponse, "verdict", ["verdict post"];
    RolloutSimulation, "rollout-simulation", ["rollout simulate"];
    RolloutView, "rollout", [
        "rollout show ROLLOUT", "rollout pause ROLLOUT", "rollout resume ROLLOUT", "rollout abort ROLLOUT",
        "rollout approve ROLLOUT", "rollout urgent ROLLOUT"
    ];
    RolloutList, "rollout-list", ["rollout list", "rollouts"];
    RolloutDeviceList, "rollout-device-list", ["rollout explain ROLLOUT"];
    QuarantineList, "quarantine-list", ["quarantine list", "quarantine clear DIGEST"];
    DoctorReport, "doctor", ["doctor"];
    ErrorDocument, "error", ["COMMAND"];
}

#[cfg(test)]
mod tests;
