//! A device that is skopeo: it asks for its image, and reports, as any client of a registry can.

use std::path::PathBuf;

use anyhow::ensure;
use serde_json::Value;

use super::server::{Server, text};
use crate::command::Run;

/// An enrolled device.
#[derive(Debug)]
pub(crate) struct Puller {
    pub(crate) id: String,
    /// Of the registry.
    address: String,
    /// `ID:CREDENTIAL`.
    credentials: String,
    /// Its last answer.
    manifest: PathBuf,
    /// The files of its identity.
    pub(crate) identity: PathBuf,
}

impl Puller {
    /// Enrols the device of a slot, such as `plant-c/cell-1`.
    pub(crate) fn enrol(server: &Server<'_>, slot: &str) -> anyhow::Result<Self> {
        let root = &server.place().root;
        let identity = root.join("devices").join(slot);
        let command = server.operator(&["device", "enrol", slot, "--json"])?.arg("--out").arg(&identity);
        let document: Value = serde_json::from_str(&command.output()?)?;
        let (id, credential) = (text(&document["device"]), text(&document["credential"]));
        ensure!(!id.is_empty() && !credential.is_empty(), "no identity: {document}");
        Ok(Self {
            id: id.to_owned(),
            address: server.address.clone(),
            credentials: format!("{id}:{credential}"),
            manifest: root.join(format!("{}.manifest", slot.replace('/', "-"))),
            identity,
        })
    }

    /// A request for a manifest.
    fn ask(&self, name: &str) -> Run {
        let reference = format!("docker://{}/device/{name}", self.address);
        let words = ["inspect", "--raw", "--tls-verify=false", "--creds", &self.credentials, &reference];
        Run::new("skopeo").args(words)
    }

    /// What it is answered with now.
    pub(crate) fn digest(&self) -> anyhow::Result<String> {
        std::fs::write(&self.manifest, self.ask("self:current").output()?)?;
        Ok(Run::new("skopeo").arg("manifest-digest").arg(&self.manifest).output()?.trim().to_owned())
    }

    /// Reports that a digest is `healthy`, or `failed`.
    pub(crate) fn report(&self, what: &str, digest: &str) -> anyhow::Result<()> {
        self.ask(&format!("self/{what}@{digest}")).output().map(drop)
    }
}
