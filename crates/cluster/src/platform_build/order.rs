//! What a Pipeline gets: parameters, and a Secret with files.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edgewright_job::ExecutorError;
use edgewright_model::order::{Context, StepAction};
use k8s_openapi::ByteString;
use serde_json::json;

use super::{Building, platform};

/// The version of the order that a Pipeline gets.
const ORDER_VERSION: u32 = 1;
/// The most that Kubernetes stores in one Secret, in bytes, less what its names take.
const SECRET_LIMIT: usize = 1024 * 1024 - 4096;

impl Building<'_> {
    /// References as tools for containers write them.
    pub(super) fn parameters(&self) -> Vec<(&'static str, String)> {
        let host = self.client.host();
        let base = self.step.base.map(|base| format!("{host}/{}@{}", base.repository, base.digest));
        vec![
            ("base", base.unwrap_or_else(|| "scratch".to_owned())),
            ("image", format!("{host}/{}", self.step.task.repository)),
            ("platform", self.step.task.platform.to_string()),
            ("node", self.step.task.node.clone()),
            ("trusted", self.request.domain.trusted.to_string()),
            ("plain-http", self.client.is_plain_http().to_string()),
        ]
    }

    /// The order, and what its tasks need, by file name.
    pub(super) fn secret(&self) -> Result<BTreeMap<String, ByteString>, ExecutorError> {
        let StepAction::Containerfile { context, containerfile, args, target, secrets, images } =
            &self.step.order.action
        else {
            return Err(platform("the step is no Containerfile".to_owned(), None));
        };
        if let Some(secret) = secrets.first() {
            return Err(platform(
                format!("the step needs the build secret `{}`, which a Pipeline does not get", secret.id),
                Some("give the Pipeline a secret of its own, and remove it from the step"),
            ));
        }
        let mut data = BTreeMap::new();
        let context = match context {
            Context::Inline { tar } => {
                let tar = STANDARD.decode(tar).map_err(|error| platform(error.to_string(), None))?;
                data.insert("context.tar".to_owned(), ByteString(tar));
                None
            }
            Context::Blob(blob) => Some(json!({
                "url": format!("{}/v2/{}/blobs/{}", self.order.registry.url, blob.repository, blob.digest),
                "digest": blob.digest,
                "size": blob.size,
            })),
        };
        let parameters: serde_json::Map<_, _> =
            self.parameters().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        let order = json!({
            "version": ORDER_VERSION,
            "parameters": parameters,
            "title": self.step.order.title,
            "key": self.step.order.key,
            "epoch": self.step.task.epoch,
            "args": args,
            "target": target,
            "labels": self.step.task.labels,
            "images": images,
            "context": context,
        });
        let text = |text: String| ByteString(text.into_bytes());
        data.insert("order.json".to_owned(), text(order.to_string()));
        data.insert("Containerfile".to_owned(), text(containerfile.clone()));
        data.insert("config.json".to_owned(), text(self.client.auth_json()));
        data.insert("args".to_owned(), text(lines(args)));
        data.insert("labels".to_owned(), text(lines(&self.step.task.labels)));
        data.insert("token".to_owned(), text(self.order.registry.token.clone().unwrap_or_default()));
        let size: usize = data.values().map(|value| value.0.len()).sum();
        if size > SECRET_LIMIT {
            let why = format!("the order has {size} bytes, a Secret holds {SECRET_LIMIT}");
            return Err(platform(why, Some("shorten the Containerfile or its arguments")));
        }
        Ok(data)
    }
}

/// `NAME=VALUE` lines, for tools that read them; values with line feeds are in the JSON only.
fn lines(map: &BTreeMap<String, String>) -> String {
    let simple = map.iter().filter(|(_, value)| !value.contains('\n'));
    simple.flat_map(|(name, value)| [name, "=", value, "\n"]).collect()
}
