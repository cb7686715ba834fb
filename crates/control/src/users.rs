//! Local users: who they are, what they may do, and the tokens by which they are known.
//!
//! A copy of all of them is in memory: every request looks its token up. It is replaced after each change,
//! before the change is acknowledged: a revoked token is invalid at once.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use edgewright_model::Digest;
use edgewright_model::names::UserName;
use edgewright_model::principal::Principal;
use edgewright_model::role::Grant;
use edgewright_process::Clock;
use edgewright_store::Store;
use edgewright_store::users::UserRow;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::ControlError;
use crate::access::Operation;
use crate::context::OperationContext;

/// Local users. Clones share them.
#[derive(Debug, Clone)]
pub struct Users {
    store: Store,
    clock: Clock,
    known: Arc<RwLock<HashMap<Digest, Known>>>,
    /// Held while the copy is made: an older one never takes the place of a newer one.
    copying: Arc<tokio::sync::Mutex<()>>,
}

/// The holder of a token.
#[derive(Debug, Clone)]
struct Known {
    name: Arc<str>,
    grants: Arc<[Grant]>,
    expires: Timestamp,
}

impl Users {
    /// Reads all users.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn open(store: Store, clock: Clock) -> Result<Self, ControlError> {
        let users = Self { store, clock, known: Arc::default(), copying: Arc::default() };
        users.refresh().await?;
        Ok(users)
    }

    /// The user whose token has this hash, unless it has expired.
    pub fn holder(&self, hash: &Digest) -> Option<Principal> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let Known { name, grants, expires } = known.get(hash)?;
        let is_valid = self.clock.now() < *expires;
        is_valid.then(|| Principal::User { name: Arc::clone(name), grants: Arc::clone(grants) })
    }

    /// All users, by name.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn list(&self) -> Result<Vec<UserRow>, ControlError> {
        Ok(self.store.users().await?)
    }

    /// Adds a user, or replaces the grants of one.
    ///
    /// # Errors
    /// The principal may not; the database cannot be written.
    pub async fn set(
        &self,
        context: &OperationContext,
        name: &UserName,
        grants: &[Grant],
    ) -> Result<UserRow, ControlError> {
        context.permit(Operation::SetUser, None)?;
        let before = self.find(name).await?.map(|user| json!({ "grants": user.grants }));
        let after = Some(json!({ "grants": grants }));
        let entry = context.entry(Operation::SetUser, format!("users/{name}"), before, after);
        self.store.set_user(name, grants, (&entry, self.clock.now())).await?;
        self.refresh().await?;
        self.named(name).await
    }

    /// Removes a user with all tokens.
    ///
    /// # Errors
    /// The principal may not; there is no such user; the database cannot be written.
    pub async fn remove(&self, context: &OperationContext, name: &UserName) -> Result<UserRow, ControlError> {
        context.permit(Operation::RemoveUser, None)?;
        let user = self.named(name).await?;
        let before = Some(json!({ "grants": user.grants }));
        let entry = context.entry(Operation::RemoveUser, format!("users/{name}"), before, None);
        self.store.remove_user(name, (&entry, self.clock.now())).await?;
        self.refresh().await?;
        Ok(user)
    }

    /// Adds a token, of which only the hash is kept, for a time; returns its id and when it expires.
    ///
    /// # Errors
    /// The principal may not; there is no such user; the database cannot be written.
    pub async fn issue(
        &self,
        context: &OperationContext,
        name: &UserName,
        (hash, valid): (&Digest, SignedDuration),
    ) -> Result<(i64, Timestamp), ControlError> {
        context.permit(Operation::IssueToken, None)?;
        self.named(name).await?;
        let now = self.clock.now();
        let expires = now.checked_add(valid).unwrap_or(Timestamp::MAX);
        let after = Some(json!({ "expires": expires }));
        let entry = context.entry(Operation::IssueToken, format!("users/{name}"), None, after);
        let id = self.store.add_user_token(name, (hash, expires), (&entry, now)).await?;
        self.refresh().await?;
        Ok((id, expires))
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// The principal may not; there is no such token; the database cannot be written.
    pub async fn revoke(
        &self,
        context: &OperationContext,
        name: &UserName,
        id: i64,
    ) -> Result<(), ControlError> {
        context.permit(Operation::RevokeToken, None)?;
        let user = self.named(name).await?;
        if !user.tokens.iter().any(|token| token.id == id) {
            return Err(ControlError::NoToken { user: name.clone(), id });
        }
        let before = Some(json!({ "token": id }));
        let entry = context.entry(Operation::RevokeToken, format!("users/{name}"), before, None);
        self.store.remove_user_token((name, id), (&entry, self.clock.now())).await?;
        self.refresh().await
    }

    async fn named(&self, name: &UserName) -> Result<UserRow, ControlError> {
        self.find(name).await?.ok_or_else(|| ControlError::NoUser { user: name.clone() })
    }

    async fn find(&self, name: &UserName) -> Result<Option<UserRow>, ControlError> {
        Ok(self.store.users().await?.into_iter().find(|user| user.name == *name))
    }

    async fn refresh(&self) -> Result<(), ControlError> {
        let _copying = self.copying.lock().await;
        let mut known = HashMap::new();
        for user in self.store.users().await? {
            let (name, grants): (Arc<str>, Arc<[Grant]>) = (user.name.as_str().into(), user.grants.into());
            for token in user.tokens {
                let (name, grants) = (Arc::clone(&name), Arc::clone(&grants));
                known.insert(token.hash, Known { name, grants, expires: token.expires_at });
            }
        }
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_known_until_it_is_revoked_expires_or_its_user_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("control.db")).await.unwrap();
        let users = Users::open(store.clone(), Clock::system()).await.unwrap();
        let operator = OperationContext::operator_here();
        let (anna, day) = ("anna".parse().unwrap(), SignedDuration::from_hours(24));
        let hash = |text: &str| Digest::of(text);
        assert!(matches!(
            users.issue(&operator, &anna, (&hash("0"), day)).await,
            Err(ControlError::NoUser { .. })
        ));
        let grants = ["operator:source=plants".parse().unwrap()];
        users.set(&operator, &anna, &grants).await.unwrap();
        let (first, _) = users.issue(&operator, &anna, (&hash("1"), day)).await.unwrap();
        users.issue(&operator, &anna, (&hash("2"), day)).await.unwrap();
        users.issue(&operator, &anna, (&hash("3"), SignedDuration::ZERO)).await.unwrap();
        let holder = |text: &str| users.holder(&hash(text)).map(|user| user.to_string());
        assert_eq!(holder("1").as_deref(), Some("user:anna"));
        assert_eq!((holder("3"), holder("x")), (None, None), "expired, unknown");
        // As after a restart.
        let again = Users::open(store.clone(), Clock::system()).await.unwrap();
        assert!(again.holder(&hash("2")).is_some());
        users.revoke(&operator, &anna, first).await.unwrap();
        assert_eq!(holder("1"), None);
        assert!(matches!(users.revoke(&operator, &anna, first).await, Err(ControlError::NoToken { .. })));
        // A user without the role changes no users.
        let user = OperationContext::of_request(users.holder(&hash("2")).unwrap(), None);
        assert!(users.set(&user, &anna, &["admin".parse().unwrap()]).await.is_err());
        users.remove(&operator, &anna).await.unwrap();
        assert_eq!(holder("2"), None);
        let selection =
            edgewright_store::audit::AuditSelection { after: Some(0), limit: 10, ..Default::default() };
        let trail = store.audit_trail(&selection).await.unwrap();
        let operations: Vec<_> = trail.iter().map(|row| row.entry.operation.as_str()).collect();
        let issued = "user.token";
        assert_eq!(operations, ["user.set", issued, issued, issued, "user.revoke", "user.remove"]);
        assert!(!format!("{trail:?}").contains(hash("1").hex()), "no hash in the trail");
    }
}
