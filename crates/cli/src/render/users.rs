//! Local users.

use edgewright_api::UserView;
use jiff::Timestamp;

use super::table::Table;
use super::units::age;

/// Users with their roles and tokens.
pub(crate) fn users(users: &[UserView], now: Timestamp) -> String {
    let mut table = Table::new(["user", "roles", "added", "tokens"]);
    for user in users {
        let grants: Vec<String> = user.grants.iter().map(ToString::to_string).collect();
        let tokens: Vec<String> =
            user.tokens.iter().map(|token| format!("{} until {:.0}", token.id, token.expires)).collect();
        let (name, added) = (user.name.to_string(), age(user.created, now));
        table.row([name, grants.join(" "), added, tokens.join(", ")]);
    }
    table.text("no users")
}
