//! Which addresses of this host a sandboxed job reaches: those of registries that its order names, and those
//! that the settings permit. Everything else of this host is out of its reach.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use edgewright_model::order::{Base, JobOrder, StepAction, Task};

/// How long a registry's name may take to be resolved. One that takes longer is another machine's.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The addresses of this host, loopback included, that `order` needs, and those of `permitted` (`HOST:PORT`).
pub(crate) async fn addresses(order: &JobOrder, permitted: &[String]) -> Vec<SocketAddr> {
    let own = tokio::task::spawn_blocking(edgewright_sandbox::launch::own_addresses);
    let own = own.await.unwrap_or_default();
    let mut found = BTreeSet::new();
    for target in targets(order).iter().chain(permitted) {
        // A name that cannot be resolved here cannot be resolved in the sandbox either: the job reports it.
        found.extend(resolve(target).await.into_iter().filter(|address| is_here(address.ip(), &own)));
    }
    found.into_iter().collect()
}

/// `HOST:PORT` of every registry of an order. Of untrusted orders, only those that something is pulled from
/// before any program of the source runs: what is no registry there fails the job before its programs could
/// connect to it.
fn targets(order: &JobOrder) -> BTreeSet<String> {
    let mut targets: BTreeSet<String> = host_and_port(&order.registry.url).into_iter().collect();
    let registries: Vec<&String> = match &order.task {
        Task::Lock(task) => {
            let base = task.request.base.iter().map(|base| &base.registry);
            base.chain(task.request.images.iter().map(|image| &image.reference.registry)).collect()
        }
        Task::Image(task) => {
            let base = match &task.base {
                Base::External { registry, .. } => Some(registry),
                Base::Scratch | Base::Manifest(_) => None,
            };
            let steps = if order.domain.trusted { task.steps.len() } else { 1 };
            let images = task.steps.iter().take(steps).flat_map(|step| match &step.action {
                StepAction::Containerfile { images, .. } => images.as_slice(),
                StepAction::Bootstrap { .. } | StepAction::Files { .. } => &[],
            });
            base.into_iter().chain(images.map(|image| &image.reference.registry)).collect()
        }
    };
    targets.extend(registries.into_iter().filter_map(|registry| host_and_port(registry)));
    targets
}

/// `HOST:PORT` of a URL, or of the registry of an image name.
fn host_and_port(registry: &str) -> Option<String> {
    let (scheme, rest) = registry.split_once("://").unwrap_or(("https", registry));
    let authority = rest.split('/').next().filter(|authority| !authority.is_empty())?;
    let after_address = authority.rsplit(']').next().unwrap_or(authority);
    if after_address.contains(':') {
        return Some(authority.to_owned());
    }
    Some(format!("{authority}:{}", if scheme == "http" { 80 } else { 443 }))
}

/// The addresses of a name. IPv6 addresses count only where there is no other: a sandbox has no IPv6 network.
async fn resolve(target: &str) -> Vec<SocketAddr> {
    let looked_up = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(target)).await;
    let all: Vec<SocketAddr> = looked_up.into_iter().flatten().flatten().collect();
    let four: Vec<SocketAddr> = all.iter().copied().filter(SocketAddr::is_ipv4).collect();
    if four.is_empty() { all } else { four }
}

fn is_here(address: IpAddr, own: &[IpAddr]) -> bool {
    address.is_loopback() || own.contains(&address)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use edgewright_model::lock::LockedImage;
    use edgewright_model::order::{Context, RegistryAccess};

    use super::*;
    use crate::conformance::image_order;

    #[test]
    fn registries_get_the_port_of_their_scheme() {
        let cases = [
            ("http://127.0.0.1:5080", "127.0.0.1:5080"),
            ("http://hub.example/", "hub.example:80"),
            ("https://hub.example:5443", "hub.example:5443"),
            ("quay.io", "quay.io:443"),
            ("[::1]:5000", "[::1]:5000"),
            ("http://[::1]", "[::1]:80"),
        ];
        for (registry, expected) in cases {
            assert_eq!(host_and_port(registry).as_deref(), Some(expected));
        }
        assert_eq!(host_and_port(""), None);
    }

    #[tokio::test]
    async fn only_registries_of_the_order_and_permitted_addresses_on_this_host_are_reached() {
        let order = image_order(1, "hmi/plant-a").unwrap();
        let access = RegistryAccess { url: "http://127.0.0.1:5080".to_owned(), ..order.registry.clone() };
        let mut order = JobOrder { registry: access, ..order };
        let Task::Image(task) = &mut order.task else { panic!("it is an image's order") };
        task.base = Base::External {
            registry: "localhost:47200".to_owned(),
            repository: "base".parse().unwrap(),
            digest: edgewright_model::Digest::of("base"),
        };
        let reached = addresses(&order, &["127.0.0.1:3142".to_owned(), "192.0.2.1:80".to_owned()]).await;
        let expected = ["127.0.0.1:3142", "127.0.0.1:5080", "127.0.0.1:47200"];
        assert_eq!(reached, expected.map(|address| address.parse().unwrap()));
    }

    /// A `containerfile` step with an image of a registry.
    fn using(registry: &str) -> StepAction {
        let image = LockedImage {
            reference: format!("{registry}/tools:1").parse().unwrap(),
            platform: "linux/amd64".parse().unwrap(),
            digest: edgewright_model::Digest::of(registry),
        };
        StepAction::Containerfile {
            context: Context::Inline { tar: String::new() },
            containerfile: String::new(),
            args: BTreeMap::new(),
            target: None,
            secrets: Vec::new(),
            images: vec![image],
        }
    }

    #[test]
    fn programs_of_untrusted_orders_run_after_all_that_is_forwarded_was_pulled_from() {
        let mut order = image_order(1, "hmi/plant-a").unwrap();
        let Task::Image(task) = &mut order.task else { panic!("it is an image's order") };
        for (step, registry) in task.steps.iter_mut().zip(["127.0.0.1:5000", "127.0.0.1:5432"]) {
            step.action = using(registry);
        }
        order.domain.trusted = true;
        assert!(targets(&order).contains("127.0.0.1:5432"));
        order.domain.trusted = false;
        let untrusted = targets(&order);
        assert!(
            untrusted.contains("127.0.0.1:5000") && !untrusted.contains("127.0.0.1:5432"),
            "{untrusted:?}"
        );
    }
}
