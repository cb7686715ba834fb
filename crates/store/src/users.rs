//! Local users and their tokens. Every change is written with its row of the audit trail.

use edgewright_model::Digest;
use edgewright_model::names::UserName;
use edgewright_model::role::Grant;
use jiff::Timestamp;

use crate::audit::{self, NewAuditEntry};
use crate::error::Operation as _;
use crate::write::{Statement, changed_one};
use crate::{Store, StoreError, row};

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRow {
    pub name: UserName,
    pub grants: Vec<Grant>,
    pub created_at: Timestamp,
    /// Tokens, oldest first, with those that have expired.
    pub tokens: Vec<TokenRow>,
}

/// A token of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    pub id: i64,
    /// The hash of the token.
    pub hash: Digest,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

impl Store {
    /// All users, by name.
    pub async fn users(&self) -> Result<Vec<UserRow>, StoreError> {
        const DOING: &str = "list users";
        let users = sqlx::query("SELECT * FROM users ORDER BY name").fetch_all(&self.readers).await;
        let mut users: Vec<UserRow> = users
            .doing(DOING)?
            .iter()
            .map(|row| {
                Ok(UserRow {
                    name: row::text(row, "name")?,
                    grants: row::json(row, "grants")?,
                    created_at: row::text(row, "created_at")?,
                    tokens: Vec::new(),
                })
            })
            .collect::<Result<_, StoreError>>()?;
        let tokens = sqlx::query("SELECT * FROM user_tokens ORDER BY id").fetch_all(&self.readers).await;
        for row in &tokens.doing(DOING)? {
            let user: UserName = row::text(row, "user")?;
            // A user that was added between both reads has no token yet.
            let Some(found) = users.iter_mut().find(|known| known.name == user) else { continue };
            found.tokens.push(TokenRow {
                id: row::number(row, "id")?,
                hash: row::text(row, "hash")?,
                created_at: row::text(row, "created_at")?,
                expires_at: row::text(row, "expires_at")?,
            });
        }
        Ok(users)
    }

    /// Adds a user, or replaces the grants of one.
    pub async fn set_user(
        &self,
        name: &UserName,
        grants: &[Grant],
        (entry, now): (&NewAuditEntry, Timestamp),
    ) -> Result<(), StoreError> {
        let statement = sqlx::query(
            "INSERT INTO users (name, grants, created_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET grants = excluded.grants",
        )
        .bind(name.to_string())
        .bind(row::to_json(&grants)?)
        .bind(now.to_string());
        self.change_one(statement, format!("user {name}"), (entry, now)).await
    }

    /// Removes a user with all tokens.
    pub async fn remove_user(
        &self,
        name: &UserName,
        (entry, now): (&NewAuditEntry, Timestamp),
    ) -> Result<(), StoreError> {
        let statement = sqlx::query("DELETE FROM users WHERE name = ?").bind(name.to_string());
        self.change_one(statement, format!("user {name}"), (entry, now)).await
    }

    /// Adds a token of a user; returns its id. Tokens of the user that have expired are removed.
    pub async fn add_user_token(
        &self,
        name: &UserName,
        (hash, expires): (&Digest, Timestamp),
        (entry, now): (&NewAuditEntry, Timestamp),
    ) -> Result<i64, StoreError> {
        const DOING: &str = "add a token";
        // Compared as times, not as text: only some texts have fractions of seconds.
        let forget =
            sqlx::query("DELETE FROM user_tokens WHERE user = ? AND julianday(expires_at) < julianday(?)")
                .bind(name.to_string())
                .bind(now.to_string());
        let add = sqlx::query_scalar::<_, i64>(
            "INSERT INTO user_tokens (user, hash, created_at, expires_at)
             SELECT name, ?, ?, ? FROM users WHERE name = ? RETURNING id",
        )
        .bind(hash.to_string())
        .bind(now.to_string())
        .bind(expires.to_string())
        .bind(name.to_string());
        let (record, what) = (audit::insert(entry, now), format!("user {name}"));
        self.write(move |db| {
            Box::pin(async move {
                forget.execute(&mut *db).await.doing(DOING)?;
                let id = add.fetch_optional(&mut *db).await.doing(DOING)?;
                let id = id.ok_or(StoreError::Conflict { what })?;
                record.execute(db).await.doing("write an audit row")?;
                Ok(id)
            })
        })
        .await
    }

    /// Revokes a token of a user.
    pub async fn remove_user_token(
        &self,
        (name, id): (&UserName, i64),
        (entry, now): (&NewAuditEntry, Timestamp),
    ) -> Result<(), StoreError> {
        let statement = sqlx::query("DELETE FROM user_tokens WHERE user = ? AND id = ?");
        let statement = statement.bind(name.to_string()).bind(id);
        self.change_one(statement, format!("token {id} of {name}"), (entry, now)).await
    }

    /// Runs a statement that changes one row, with its row of the audit trail.
    async fn change_one(
        &self,
        statement: Statement,
        what: String,
        (entry, now): (&NewAuditEntry, Timestamp),
    ) -> Result<(), StoreError> {
        let record = audit::insert(entry, now);
        self.write(move |db| {
            Box::pin(async move {
                let changed = statement.execute(&mut *db).await.doing("change a user")?;
                changed_one(&changed, || what)?;
                record.execute(db).await.doing("write an audit row")
            })
        })
        .await
    }
}
