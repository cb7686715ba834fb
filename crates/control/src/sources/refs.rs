//! What the names of refs say.

/// The number of a pull request by its ref: 12 of `refs/pull/12/head` or `refs/merge-requests/12/head`.
pub fn pull_request_number(name: &str) -> Option<u64> {
    let rest = name.strip_prefix("refs/pull/").or_else(|| name.strip_prefix("refs/merge-requests/"))?;
    rest.strip_suffix("/head")?.parse().ok()
}

/// Whether a run is of a pull request: of a ref that is no branch.
pub fn is_pull_request(name: &str) -> bool {
    name.starts_with("refs/")
}

/// The tag of what a pull request built: `pr-12`.
pub fn pull_request_tag(name: &str) -> Option<String> {
    pull_request_number(name).map(|number| format!("pr-{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_of_pull_requests_have_numbers_and_tags() {
        for (name, expected) in [
            ("refs/pull/12/head", Some("pr-12")),
            ("refs/merge-requests/3/head", Some("pr-3")),
            ("refs/pull/12/merge", None),
            ("refs/pull/*", None),
            ("main", None),
        ] {
            assert_eq!(pull_request_tag(name).as_deref(), expected, "{name}");
        }
    }
}
