//! Bases that no build may use: of another architecture, or never ending. Files alone, so no tool is needed.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[allow(dead_code, reason = "not every test binary needs all of it")]
mod common;

use std::io::Write as _;
use std::time::Duration;

use common::{World, epoch, repo, task};
use edgewright_build::{BuildContext, execute};
use edgewright_model::order::{Base, ImageTask, ManifestRef, StepAction};
use edgewright_model::outcome::{FailureKind, JobFailure};
use edgewright_model::reference::Reference;
use edgewright_oci::image::{Image, LayerRef};
use edgewright_oci::layer::Kind;
use edgewright_oci::{Descriptor, media};

async fn built(ctx: &BuildContext, task: ImageTask) -> Result<ManifestRef, JobFailure> {
    execute(&task, ctx, &|_| {}).await.result
}

/// Some megabytes that unpack to 256 GiB: work on a blocking thread ends with the job.
#[tokio::test]
async fn a_base_that_unpacks_without_end_ends_with_the_job() {
    let world = World::new().await;
    let mut header = tar::Header::new_ustar();
    header.set_path("zeros").unwrap();
    header.set_size(0o777_7777_7777);
    header.set_cksum();
    let mut blob = zstd::stream::encode_all(&header.as_bytes()[..], 1).unwrap();
    let zeros = zstd::stream::encode_all(&vec![0_u8; 64 * 1024 * 1024][..], 1).unwrap();
    // A file of 8 GiB, and behind it zeros, which readers skip.
    for _ in 0..4096 {
        blob.write_all(&zeros).unwrap();
    }
    let layer = LayerRef {
        descriptor: Descriptor::of(media::LAYER_ZSTD, &blob),
        diff_id: edgewright_model::Digest::of("unknown"),
    };
    let mut image = Image::scratch(&"linux/amd64".parse().unwrap());
    image.add_layer(layer, "bomb", epoch());
    let documents = image.documents(epoch());
    let (client, repository) = (&world.ctx.client, repo("t/bomb"));
    client.push_blob_bytes(&repository, blob).await.unwrap();
    client.push_blob_bytes(&repository, documents.config).await.unwrap();
    let digest = documents.manifest_descriptor.digest.clone();
    let reference = Reference::Digest(digest.clone());
    client.push_manifest(&repository, &reference, media::MANIFEST, documents.manifest).await.unwrap();

    let entries = world.push_tar(&[("etc/motd", Kind::File, "hi\n")]).await;
    let action = StepAction::Files { entries, delete: Vec::new() };
    let task = task(Base::Manifest(ManifestRef { repository, digest }), "t/on-bomb", vec![action]);
    let build = built(&world.ctx, task);
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        world.ctx.process.cancel().cancel();
    };
    let (ended, ()) = tokio::join!(build, cancel);
    assert_eq!(ended.unwrap_err().kind, FailureKind::Infrastructure, "it ends before the limit of an image");
}

/// A base whose config names another platform is denied, whatever its index or the source wants.
#[tokio::test]
async fn a_base_of_another_architecture_is_refused() {
    let world = World::new().await;
    let entries = world.push_tar(&[("etc/motd", Kind::File, "hi\n")]).await;
    let action = StepAction::Files { entries, delete: Vec::new() };
    let base = built(&world.ctx, task(Base::Scratch, "t/amd", vec![action.clone()])).await.unwrap();
    let platform: edgewright_model::names::Platform = "linux/arm64".parse().unwrap();
    // An index that claims the platform.
    let descriptor = edgewright_oci::Descriptor::new(edgewright_oci::media::MANIFEST, base.digest.clone(), 1);
    let index = edgewright_oci::image::index(&[(platform.clone(), descriptor)]);
    let digest = edgewright_model::Digest::of(&index);
    let reference = Reference::Digest(digest.clone());
    let client = &world.ctx.client;
    client.push_manifest(&base.repository, &reference, edgewright_oci::media::INDEX, index).await.unwrap();
    let external = |digest| Base::External {
        registry: client.host().to_owned(),
        repository: base.repository.clone(),
        digest,
    };
    for from in [Base::Manifest(base.clone()), external(base.digest.clone()), external(digest)] {
        for actions in [vec![action.clone()], Vec::new()] {
            let mut task = task(from.clone(), "t/arm", actions);
            task.platform = platform.clone();
            let failed = built(&world.job("arm"), task).await.unwrap_err();
            assert_eq!(failed.kind, FailureKind::Image);
            assert!(failed.message.contains("base is linux/amd64, not linux/arm64"), "{failed:?}");
        }
    }
}
