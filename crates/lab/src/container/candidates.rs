//! Settings to try if podman cannot start a container with its defaults. Pure: the host's limits are an
//! argument.

/// The largest limit of open files to set.
const MOST_FILES: u64 = 1_048_576;
/// The largest limit of processes to set, the kernel's classic maximum: podman 4.3 fails above it, even if
/// the hard limit is higher.
const MOST_PROCESSES: u64 = 32_768;
/// A set of settings to try.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// Its name in messages.
    pub(crate) title: &'static str,
    runtime: Option<&'static str>,
    ulimits: bool,
}

/// The candidates, in the order in which they are tried.
pub(crate) const CANDIDATES: [Candidate; 4] = [
    Candidate { title: "the default settings", runtime: None, ulimits: false },
    Candidate { title: "the host's hard limits", runtime: None, ulimits: true },
    Candidate { title: "runc", runtime: Some("runc"), ulimits: false },
    Candidate { title: "runc with the host's hard limits", runtime: Some("runc"), ulimits: true },
];

impl Candidate {
    /// The settings as a containers.conf; none for the host's defaults.
    pub(crate) fn containers_conf(self, limits: &str) -> Option<String> {
        let runtime = self.runtime.map(|runtime| format!("[engine]\nruntime = \"{runtime}\"\n"));
        let ulimits = self.ulimits.then(|| {
            let limit = |name: &str, most: u64| hard_limit(limits, name).unwrap_or(most).min(most);
            let (files, processes) = (limit("Max open files", MOST_FILES), limit("Max processes", MOST_PROCESSES));
            format!(
                "[containers]\ndefault_ulimits = [\"nofile={files}:{files}\", \"nproc={processes}:{processes}\"]\n"
            )
        });
        let text: String = [runtime, ulimits].into_iter().flatten().collect();
        (!text.is_empty()).then_some(text)
    }
}

/// The hard limit in a line of `/proc/self/limits`; none if it is unlimited or missing.
fn hard_limit(limits: &str, name: &str) -> Option<u64> {
    let rest = limits.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
        Max processes             96365                unlimited            processes \n\
        Max open files            1024                 20000                files     \n";

    #[test]
    fn limits_never_exceed_the_hosts() {
        assert_eq!(hard_limit(LIMITS, "Max open files"), Some(20_000));
        assert_eq!(hard_limit(LIMITS, "Max processes"), None);
        assert_eq!(hard_limit("", "Max processes"), None);
        let texts: Vec<_> = CANDIDATES
            .iter()
            .map(|candidate| candidate.containers_conf(LIMITS).unwrap_or_default())
            .collect();
        let ulimits = "[containers]\ndefault_ulimits = [\"nofile=20000:20000\", \"nproc=32768:32768\"]\n";
        assert_eq!(
            texts,
            [
                String::new(),
                ulimits.to_owned(),
                "[engine]\nruntime = \"runc\"\n".to_owned(),
                format!("[engine]\nruntime = \"runc\"\n{ulimits}"),
            ]
        );
    }
}
