//! A job's order as a Secret, beside its build secrets.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use edgewright_job::ExecutorError;
use edgewright_model::order::JobOrder;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::task_run::{ORDER_KEY, secret_key};

/// The most that Kubernetes stores in one Secret, in bytes, less what its names take.
const SECRET_LIMIT: usize = 1024 * 1024 - 4096;
/// The longest order, in bytes, as the job's process reads it.
const ORDER_LIMIT: u64 = 64 * 1024 * 1024;
/// The level of compression: orders are lists of packages, which shrink to a tenth.
const LEVEL: i32 = 9;

/// The Secret of an order, which ends with `owner`, if there is one.
pub(crate) fn secret(
    meta: &ObjectMeta,
    owner: Option<OwnerReference>,
    order: &JobOrder,
    secrets: BTreeMap<String, Vec<u8>>,
) -> Result<Secret, ExecutorError> {
    let json = serde_json::to_vec(order).map_err(ExecutorError::Order)?;
    let mut data: BTreeMap<String, ByteString> =
        secrets.into_iter().map(|(id, bytes)| (secret_key(&id), ByteString(bytes))).collect();
    data.insert(
        ORDER_KEY.to_owned(),
        ByteString(pack(&json).map_err(|error| too_large(&error.to_string()))?),
    );
    let size: usize = data.values().map(|value| value.0.len()).sum();
    if size > SECRET_LIMIT {
        return Err(too_large(&format!("{size} bytes compressed, a Secret holds {SECRET_LIMIT}")));
    }
    let metadata = ObjectMeta { owner_references: owner.map(|owner| vec![owner]), ..meta.clone() };
    Ok(Secret { metadata, immutable: Some(true), data: Some(data), ..Secret::default() })
}

fn too_large(why: &str) -> ExecutorError {
    ExecutorError::Platform {
        message: format!("cannot pass the order to the cluster: {why}"),
        hint: Some(
            "move large files of `files:` folders into a folder of their own: those are pushed, and the order \
             names them"
                .to_owned(),
        ),
        output: Vec::new(),
    }
}

fn pack(json: &[u8]) -> std::io::Result<Vec<u8>> {
    zstd::encode_all(json, LEVEL)
}

/// The order as JSON, from the bytes of a Secret.
pub(crate) fn unpack(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut json = Vec::new();
    zstd::Decoder::new(bytes)?.take(ORDER_LIMIT).read_to_end(&mut json)?;
    Ok(json)
}

/// The token of the order in a Secret that an earlier process of the server made.
pub(crate) fn token(secret: &Secret) -> Option<String> {
    let bytes = secret.data.as_ref()?.get(ORDER_KEY)?;
    let order: JobOrder = serde_json::from_slice(&unpack(&bytes.0).ok()?).ok()?;
    order.registry.token.filter(|token| !token.is_empty())
}

/// The bytes of build secrets. One that cannot be read is left out: only a step that needs it fails.
pub(crate) async fn read_secrets(files: BTreeMap<String, PathBuf>) -> BTreeMap<String, Vec<u8>> {
    let mut secrets = BTreeMap::new();
    for (id, file) in files {
        match read(&file).await {
            Ok(bytes) => drop(secrets.insert(id, bytes)),
            Err(error) => {
                tracing::warn!(secret = id, file = %file.display(), %error, "cannot read a build secret");
            }
        }
    }
    secrets
}

async fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    tokio::fs::read(file).await
}

#[cfg(test)]
mod tests {
    use edgewright_job::conformance::image_order;

    use super::*;

    #[test]
    fn an_order_and_its_token_are_read_again() {
        let mut order = image_order(1, "hmi").unwrap();
        order.registry.token = Some("ewjob_x".to_owned());
        let secrets = BTreeMap::from([("npm".to_owned(), b"s3cret".to_vec())]);
        let made = secret(&ObjectMeta::default(), None, &order, secrets).unwrap();
        assert_eq!(made.immutable, Some(true));
        assert_eq!(token(&made).as_deref(), Some("ewjob_x"));
        let data = made.data.unwrap();
        assert_eq!(data[&secret_key("npm")].0, b"s3cret");
        let json = unpack(&data[ORDER_KEY].0).unwrap();
        assert_eq!(serde_json::from_slice::<JobOrder>(&json).unwrap(), order);
        assert_eq!(token(&Secret::default()), None);
    }

    #[test]
    fn an_order_that_no_secret_holds_is_refused_with_its_size() {
        let order = image_order(1, "hmi").unwrap();
        let secrets = BTreeMap::from([("large".to_owned(), vec![7; 2 * SECRET_LIMIT])]);
        let error = secret(&ObjectMeta::default(), None, &order, secrets).unwrap_err();
        assert!(error.to_string().contains("a Secret holds 1044480"), "{error}");
    }
}
