//! From verified claims to a user with grants: pure.

use edgewright_model::principal::{Principal, is_principal_name};
use edgewright_model::role::Grant;
use serde_json::{Map, Value};

use super::InvalidToken;
use crate::settings::OidcOptions;

/// The user that claims describe. One without any of the configured groups has no grants.
pub(super) fn identify(
    claims: &Map<String, Value>,
    options: &OidcOptions,
) -> Result<Principal, InvalidToken> {
    let invalid = |claim: &str, fault| InvalidToken::Claim { claim: claim.to_owned(), fault };
    let claim = options.name_claim();
    let name = at(claims, claim).ok_or_else(|| invalid(claim, "is missing"))?;
    let name = name.as_str().ok_or_else(|| invalid(claim, "is not a text"))?;
    if claim == "email" && claims.get("email_verified") == Some(&Value::Bool(false)) {
        return Err(invalid(claim, "is not verified by the provider"));
    }
    // Local users have no `@`: a name of the provider is never that of a local user.
    let name = if name.contains('@') { name.to_owned() } else { format!("{name}@{}", host(&options.issuer)) };
    if !is_principal_name(&name) {
        return Err(invalid(claim, "has characters that names do not have, or is too long"));
    }
    let groups = match at(claims, options.groups_claim()) {
        Some(Value::Array(groups)) => groups.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(group)) => vec![group.as_str()],
        _ => Vec::new(),
    };
    let mut grants: Vec<Grant> = Vec::new();
    for grant in groups.into_iter().filter_map(|group| options.groups.get(group)).flatten() {
        if !grants.contains(grant) {
            grants.push(grant.clone());
        }
    }
    Ok(Principal::User { name: name.into(), grants: grants.into() })
}

/// A claim by its name, or by its path: `realm_access.roles`. A name with dots wins.
fn at<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    at(claims.get(first)?.as_object()?, rest)
}

/// The host of an issuer.
fn host(issuer: &str) -> String {
    let url: Option<reqwest::Url> = issuer.parse().ok();
    url.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_else(|| "provider".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn options(more: &str) -> OidcOptions {
        toml::from_str(&format!(
            "issuer = \"https://id.example.org/r\"\nclient_id = \"edgewright\"\n{more}\n[groups]\n\
             admins = [\"admin\"]\nline-4 = [\"operator:source=plants\", \"viewer\"]\n\"https://a.b/c\" = [\"viewer\"]\n"
        ))
        .unwrap()
    }

    #[test]
    fn groups_are_mapped_to_grants_and_names_never_are_those_of_local_users() {
        // (claims, more settings, name, grants); no name: rejected
        for (claims, more, expected) in [
            (json!({"sub": "7", "groups": ["admins", "x"]}), "", Some(("user:7@id.example.org", "admin"))),
            (json!({"sub": "7"}), "", Some(("user:7@id.example.org", ""))),
            (json!({"sub": "7", "groups": []}), "", Some(("user:7@id.example.org", ""))),
            (
                json!({"sub": "7", "groups": "line-4"}),
                "",
                Some(("user:7@id.example.org", "operator:source=plants viewer")),
            ),
            (
                json!({"sub": "7", "groups": ["line-4", "https://a.b/c"]}),
                "",
                Some(("user:7@id.example.org", "operator:source=plants viewer")),
            ),
            (
                json!({"sub": "7", "realm": {"roles": ["admins"]}}),
                "groups_claim = \"realm.roles\"",
                Some(("user:7@id.example.org", "admin")),
            ),
            (
                json!({"sub": "7", "email": "anna@example.org", "groups": ["admins"]}),
                "name_claim = \"email\"",
                Some(("user:anna@example.org", "admin")),
            ),
            (json!({"email": "anna@example.org", "email_verified": false}), "name_claim = \"email\"", None),
            (json!({"groups": ["admins"]}), "", None),
            (json!({"sub": 7}), "", None),
            (json!({"sub": ""}), "name_claim = \"x\"", None),
            (json!({"sub": "a b"}), "", None),
            (json!({"sub": "a:b"}), "", None),
        ] {
            let found = identify(claims.as_object().unwrap(), &options(more));
            let found = found.ok().map(|principal| {
                let Principal::User { grants, .. } = &principal else { panic!("not a user") };
                let grants: Vec<String> = grants.iter().map(ToString::to_string).collect();
                (principal.to_string(), grants.join(" "))
            });
            let found = found.as_ref().map(|(name, grants)| (name.as_str(), grants.as_str()));
            assert_eq!(found, expected, "{claims}");
        }
    }
}
