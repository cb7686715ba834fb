//! `containerfile` steps: buildah runs the Containerfile on the image so far.
//!
//! What buildah gets is not the text of the repository, but one in which every stage and image has the name
//! of what it is in the storage (`edgewright_model::containerfile`); buildah itself pulls nothing.
//!
//! The base is pulled once into the storage that all jobs share; a build works in a storage of its own on top
//! of it (an additional image store), which is removed with the job's folder. Only the new layers are
//! written: empty files in the layout that buildah writes to mark the base's blobs as present.

mod buildah;
mod explain;
mod foreign;
mod leftovers;
mod mounts;
mod parse;
mod store;
mod unpacked;
mod volumes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use edgewright_model::containerfile::instructions;
use edgewright_model::lock::LockedImage;
use edgewright_model::order::{Context, ImageTask};
use edgewright_model::outcome::{JobEvent, JobFailure, Phase};
use edgewright_model::spec::SecretRef;
use edgewright_oci::image::{Image, LayerRef};
use edgewright_oci::index::Index;
use edgewright_oci::layer::{Layer, LayerError, decompress, write_tar};
use edgewright_oci::layout::Layout;
use serde_json::{Map, Value};

use crate::context::{BuildContext, Events};
use crate::image_state::{ImageState, blocking};
use crate::log::Log;
use crate::{failure, privileges};
use buildah::Version;
use explain::explain;
use parse::Text;
use store::Store;

/// The label that buildah adds to every image.
const BUILDAH_LABEL: &str = "io.buildah.version";

/// The parts of a `containerfile` step's order.
pub(crate) struct Order<'a> {
    pub(crate) task: &'a ImageTask,
    pub(crate) images: &'a [LockedImage],
    pub(crate) context: &'a Context,
    pub(crate) text: &'a str,
    pub(crate) args: &'a BTreeMap<String, String>,
    pub(crate) target: Option<&'a str>,
    pub(crate) secrets: &'a [SecretRef],
}

pub(crate) async fn build(
    state: &mut ImageState,
    ctx: &BuildContext,
    order: &Order<'_>,
    events: Events<'_>,
) -> Result<Vec<Layer>, JobFailure> {
    let text = Text::read(order)?;
    privileges::check()?;
    let version = Version::of(ctx).await?;
    text.check_tools(&version)?;
    if let Some(line) = volumes::warning(&version, order.text, &state.image.runtime()) {
        events(JobEvent::Log { line });
    }
    state.remove_triggers(ctx, events).await?;
    let Some(base) = state.current.clone() else {
        let hint = "put a `bootstrap` or `files` step before it, or start `from:` an image";
        return Err(failure::image(Phase::Build, "a Containerfile needs a base image", hint));
    };
    let local = |error: std::io::Error| failure::local(Phase::Build, &error);
    let folder = fresh_folder(&ctx.scratch.join("containerfile")).map_err(local)?;
    let context = unpacked::unpack(ctx, order.context, &folder).await?;
    let (mounts, within) = (mounts::find(order.text), context.clone());
    let checked = blocking(move || (mounts.iter().try_for_each(|mount| mount.check(&within)), mounts));
    let (checked, mounts) = checked.await?;
    checked.map_err(|error| {
        let hint = "name a path inside of the build context, and an id without `..`";
        failure::image(Phase::Build, error.to_string(), hint)
    })?;
    version.check(&mounts)?;
    let store = Store::new(ctx, &folder);
    let base_name = store.pull_base(ctx, &base).await?;
    let images = foreign::pull(&store, ctx, order, &text, events).await?;
    let containerfile = folder.join("Containerfile");
    tokio::fs::write(&containerfile, text.for_buildah(&base_name, &images)).await.map_err(local)?;
    // A base without a platform is of any; buildah finds it only if it is not asked for one.
    let platform = state.image.has_platform().then(|| order.task.platform.to_string());
    if text.is_from_scratch() {
        // The base's layers are not below the result.
        state.image = Image::scratch(&order.task.platform);
    }
    let epoch = state.epoch().as_second().max(0).to_string();
    let format = text.format();
    let build = Build { ctx, store, folder, base_name, epoch, version, platform, format };
    let result = async {
        let id = build.bud(order, &containerfile, &context, events).await?;
        build.layout(&id, state.image.layers()).await
    }
    .await;
    build.store.clean(ctx, result.is_err()).await;
    let layout = result?;
    // Without a RUN there is no container, and nothing that one leaves.
    let runs = instructions(order.text).iter().any(|instruction| instruction.keyword == "RUN");
    let below = if runs { Some(state.index(ctx).await?) } else { None };
    take_over(state, &layout, &build.folder, below).await
}

/// One Containerfile's build, in a storage of its own.
struct Build<'a> {
    ctx: &'a BuildContext,
    store: Store,
    /// The folder of all its files.
    folder: PathBuf,
    /// The base's name in the shared storage.
    base_name: String,
    /// Seconds since 1970, for the times of files.
    epoch: String,
    /// The buildah that does it.
    version: Version,
    /// The platform of all stages, whatever the host's is.
    platform: Option<String>,
    /// The format in which buildah keeps the image.
    format: &'static str,
}

impl Build<'_> {
    /// Runs `buildah bud`; gives the id of the image.
    async fn bud(
        &self,
        order: &Order<'_>,
        containerfile: &Path,
        context: &Path,
        events: Events<'_>,
    ) -> Result<String, JobFailure> {
        let Self { ctx, store, folder, base_name, epoch, version, platform, format } = self;
        let id_file = folder.join("image-id");
        // The context has no ignored files: a second look at the rules would drop others.
        let no_rules = folder.join("no-ignore-rules");
        tokio::fs::write(&no_rules, "").await.map_err(|error| failure::local(Phase::Build, &error))?;
        let mut command = store
            .buildah(ctx)
            .args(["bud", "--layers=false", "--pull-never", "--force-rm", "--identity-label=false"])
            .args(["--format", format, "--timestamp", epoch.as_str()])
            .arg("--iidfile")
            .arg(&id_file)
            .arg("--file")
            .arg(containerfile)
            .arg("--ignorefile")
            .arg(&no_rules)
            .arg(format!("--build-arg=BASE={base_name}"));
        if let Some(platform) = platform {
            command = command.args(["--platform", platform.as_str()]);
        }
        if ctx.in_sandbox {
            command = command.args(["--network", "host", "--isolation", "oci"]);
        }
        for (name, value) in order.args {
            command = command.arg(format!("--build-arg={name}={value}"));
        }
        for secret in order.secrets {
            let path = write_secret(ctx, folder, secret)?;
            command = command.arg(format!("--secret=id={},src={}", secret.id, path.display()));
        }
        let mut log = Log::new(events);
        let mut damage = None;
        let on_line = |_, line: &str| {
            damage = damage.take().or_else(|| version.fault_in(line));
            log.line(line);
        };
        let ended = command.arg(context).deadline(ctx.step_limit).run_lines(on_line).await;
        ended.map_err(|error| explain(&error, log.tail()))?;
        if let Some(failure) = damage {
            return Err(JobFailure { output: log.tail(), ..failure });
        }

        let id = tokio::fs::read_to_string(&id_file).await;
        let id = id.map_err(|error| failure::local(Phase::Build, &error))?;
        Ok(id.trim().trim_start_matches("sha256:").to_owned())
    }

    /// Lets buildah write the image as a layout, without the base's layers.
    async fn layout(&self, id: &str, base: &[LayerRef]) -> Result<Layout, JobFailure> {
        let folder = self.folder.join("layout");
        let layout = Layout::create(&folder).map_err(|error| failure::local(Phase::Build, &error))?;
        // buildah does not write blobs that exist in the layout: these represent the base's layers.
        for layer in base {
            for digest in [&layer.diff_id, &layer.descriptor.digest] {
                let written = tokio::fs::write(layout.blob_path(digest), "").await;
                written.map_err(|error| failure::local(Phase::Build, &error))?;
            }
        }
        self.store
            .buildah(self.ctx)
            // The fastest format that every buildah supports: these files are read at once and deleted.
            .args(["push", "--quiet", "--format=oci", "--disable-compression", "--compression-format=zstd"])
            .arg(id)
            .arg(format!("oci:{}", folder.display()))
            .deadline(self.ctx.step_limit)
            .run()
            .await
            .map_err(|error| failure::command(Phase::Build, &error))?;
        Ok(layout)
    }
}

/// Compresses the new layers and takes over the runtime config. `below`: the entries of the base, if a `RUN`
/// may have left something.
async fn take_over(
    state: &mut ImageState,
    layout: &Layout,
    folder: &Path,
    below: Option<Arc<Index>>,
) -> Result<Vec<Layer>, JobFailure> {
    let damaged = |error: &(dyn std::error::Error + 'static)| failure::local(Phase::Build, error);
    let (manifest, config) = layout.image().map_err(|error| damaged(&error))?;
    let built = Image::parse(&manifest, &config).map_err(|error| damaged(&error))?;
    let (count, new) = split_layers(state.image.layers(), built.layers())?;
    tracing::debug!(below = count, new = new.len(), "compressing the layers of buildah");
    let mut layers = Vec::new();
    let mut below = match below {
        Some(index) => Some(blocking(move || Index::clone(&index)).await?),
        None => None,
    };
    for (number, layer) in new.iter().enumerate() {
        let blob = layout.blob_path(&layer.descriptor.digest);
        let media_type = layer.descriptor.media_type.clone();
        let (target, epoch) = (folder.join(format!("layer-{number}")), state.epoch());
        let written = blocking(move || -> Result<_, LayerError> {
            let Some(mut index) = below else {
                let blob = std::fs::File::open(&blob).map_err(LayerError::Read)?;
                return Ok((Some(write_tar(decompress(blob, &media_type)?, &target, epoch)?), None));
            };
            let layer = leftovers::write_without(&blob, &media_type, &index, (&target, epoch))?;
            if let Some(layer) = &layer {
                index.apply(&layer.index);
            }
            Ok((layer, Some(index)))
        });
        let (layer, index) = written.await?.map_err(|error| failure::layer(Phase::Build, &error))?;
        below = index;
        layers.extend(layer);
    }
    let runtime = without_buildah(built.runtime(), &state.image.runtime());
    state.image.set_runtime(runtime);
    Ok(layers)
}

/// The number of the base's layers, and the new layers above.
fn split_layers<'a>(base: &[LayerRef], built: &'a [LayerRef]) -> Result<(usize, &'a [LayerRef]), JobFailure> {
    let same = built.len() >= base.len() && base.iter().zip(built).all(|(a, b)| a.diff_id == b.diff_id);
    if same {
        return Ok((base.len(), &built[base.len()..]));
    }
    let hint = "make the final stage FROM ${BASE}, and do not squash it";
    Err(failure::image(Phase::Build, "the built image does not start with the layers of its base", hint))
}

fn without_buildah(mut runtime: Map<String, Value>, base: &Map<String, Value>) -> Map<String, Value> {
    let in_base = base.get("Labels").is_some_and(|labels| labels.get(BUILDAH_LABEL).is_some());
    if let Some(Value::Object(labels)) = runtime.get_mut("Labels")
        && !in_base
    {
        labels.remove(BUILDAH_LABEL);
        if labels.is_empty() {
            runtime.remove("Labels");
        }
    }
    runtime
}

fn fresh_folder(folder: &Path) -> std::io::Result<PathBuf> {
    let mut number = 0;
    loop {
        let candidate = folder.join(number.to_string());
        std::fs::create_dir_all(folder)?;
        match std::fs::create_dir(&candidate) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
            Ok(()) => return Ok(candidate),
        }
    }
}

fn write_secret(ctx: &BuildContext, folder: &Path, secret: &SecretRef) -> Result<PathBuf, JobFailure> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let Some(bytes) = ctx.secrets.get(&secret.id) else {
        let message = format!("cannot read the build secret `{}`: unknown id, or unreadable file", secret.id);
        let hint =
            "name its file under this id in `[secrets]` of the settings file, or with `--secret ID=FILE`";
        return Err(failure::infrastructure(Phase::Build, message, Some(hint)));
    };
    let path = folder.join(format!("secret-{}", secret.id.replace(['/', ','], "_")));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| file.write_all(bytes));
    written.map_err(|error| failure::local(Phase::Build, &error))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_buildahs_own_label_is_dropped() {
        let object = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        let built = object(r#"{"Env":["A=b"],"Labels":{"io.buildah.version":"1"}}"#);
        assert_eq!(without_buildah(built.clone(), &Map::new()), object(r#"{"Env":["A=b"]}"#));
        let base = object(r#"{"Labels":{"io.buildah.version":"1"}}"#);
        assert_eq!(without_buildah(built.clone(), &base), built);
    }
}
