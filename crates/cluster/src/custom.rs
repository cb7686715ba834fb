//! Kinds of objects that `k8s-openapi` does not have: those of Tekton, Shipwright and KubeVirt.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A namespaced kind, named by the type of its status.
pub trait CustomKind {
    /// The API group.
    const GROUP: &'static str;
    /// The kind.
    const KIND: &'static str;
    /// The name of its objects in paths.
    const PLURAL: &'static str;
    /// The version.
    const VERSION: &'static str = "v1";
}

/// An object with the status `S`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Custom<S> {
    /// Group and version.
    #[serde(default)]
    pub api_version: String,
    /// [`CustomKind::KIND`].
    #[serde(default)]
    pub kind: String,
    /// Name and labels.
    pub metadata: ObjectMeta,
    /// What is to be; only written.
    pub spec: Value,
    /// What became of it.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub status: Option<S>,
}

impl<S: CustomKind> Custom<S> {
    /// One to create.
    pub(crate) fn new(metadata: ObjectMeta, spec: Value) -> Self {
        let api_version = format!("{}/{}", S::GROUP, S::VERSION);
        Self { api_version, kind: S::KIND.to_owned(), metadata, spec, status: None }
    }
}

impl<S: CustomKind> Resource for Custom<S> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        S::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        S::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        S::VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        S::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
