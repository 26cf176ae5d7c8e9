//! Tokens and the login sessions created with them. This module handles only hashes.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

use crate::access::{Fingerprint, Scope, TokenName};

use super::{Store, queries};
use crate::core::database::DatabaseError;
use crate::core::database::{Undecodable, column};

/// A token as shown to people, without its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Token {
    /// The name, which is the actor in the audit log.
    pub name: String,
    /// `read`, `write` or `admin`.
    pub scope: String,
    /// `live`, `expired` or `revoked`.
    pub state: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// The actor that created it.
    pub created_by: String,
    /// When it expires, if it does.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to within a minute.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
    /// The actor that revoked it.
    pub revoked_by: Option<String>,
}

/// Whether a token or a login session is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialState {
    /// Valid.
    Live,
    /// Its lifetime has ended.
    Expired,
    /// It was revoked.
    Revoked,
}

/// The token that a credential belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// The token's ID.
    pub token: i64,
    /// Its name.
    pub name: String,
    /// Its scope.
    pub scope: Scope,
    /// Whether the credential is valid.
    pub state: CredentialState,
    /// Whether its use was not recorded within the last minute.
    pub use_unrecorded: bool,
}

/// A set of tokens and login sessions.
#[derive(Clone, Debug, Default)]
pub struct LiveGrants {
    /// IDs of tokens.
    pub tokens: Vec<i64>,
    /// Hashes of sessions.
    pub sessions: Vec<Vec<u8>>,
}

impl Store {
    /// Creates a token; `None` if an unrevoked token of the name exists. Without
    /// `seconds` it does not expire.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn create_token(
        &self,
        name: &TokenName,
        hash: &Fingerprint,
        scope: Scope,
        seconds: Option<f64>,
    ) -> Result<Option<Token>, DatabaseError> {
        let created = self
            .each(
                "create a token of the API",
                &queries::CREATE_TOKEN,
                &[&name.as_str(), &hash.as_bytes(), &scope.as_str(), &seconds],
                token,
            )
            .await?;
        Ok(created.into_iter().next())
    }

    /// Every token, also expired and revoked ones.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn tokens(&self) -> Result<Vec<Token>, DatabaseError> {
        self.each("list tokens", &queries::LIST_TOKENS, &[], token)
            .await
    }

    /// Revokes a token and ends its sessions; `None` if no unrevoked token has the name.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn revoke_token(&self, name: &TokenName) -> Result<Option<Token>, DatabaseError> {
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&name.as_str()];
        let revoked = self
            .each(
                "revoke a token of the API",
                &queries::REVOKE_TOKEN,
                &params,
                token,
            )
            .await?;
        Ok(revoked.into_iter().next())
    }

    /// Finds the token with this hash.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn bearer(&self, hash: &Fingerprint) -> Result<Option<Bearer>, DatabaseError> {
        self.find_bearer("find the token of a request", &queries::FIND_TOKEN, hash)
            .await
    }

    /// Finds the login session with this hash.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn session(&self, hash: &Fingerprint) -> Result<Option<Bearer>, DatabaseError> {
        self.find_bearer("find a session", &queries::FIND_SESSION, hash)
            .await
    }

    async fn find_bearer(
        &self,
        operation: &'static str,
        sql: &str,
        hash: &Fingerprint,
    ) -> Result<Option<Bearer>, DatabaseError> {
        let found = self
            .each(operation, sql, &[&hash.selector()], |row| {
                Ok((column::<Vec<u8>>(row, "hash")?, bearer(row)?))
            })
            .await?;
        let matching = found.into_iter().find(|(stored, _)| hash.matches(stored));
        Ok(matching.map(|(_, bearer)| bearer))
    }

    /// Records the use of a token, at most once a minute.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn record_token_use(&self, token: i64) -> Result<(), DatabaseError> {
        self.execute(
            "record a token's use",
            &queries::RECORD_TOKEN_USE,
            &[&token],
        )
        .await
        .map(drop)
    }

    /// Creates a login session that ends after `seconds` or with its token. A token
    /// keeps its `limit` newest sessions.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn open_session(
        &self,
        token: i64,
        hash: &Fingerprint,
        seconds: f64,
        limit: i64,
    ) -> Result<bool, DatabaseError> {
        self.execute(
            "create a session",
            &queries::OPEN_SESSION,
            &[&token, &hash.as_bytes(), &seconds, &limit],
        )
        .await
        .map(|created| created > 0)
    }

    /// Ends a login session.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn close_session(&self, hash: &Fingerprint) -> Result<(), DatabaseError> {
        self.execute(
            "end a session",
            &queries::CLOSE_SESSION,
            &[&hash.as_bytes()],
        )
        .await
        .map(drop)
    }

    /// The valid ones of these tokens and sessions.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn live_grants(&self, checked: &LiveGrants) -> Result<LiveGrants, DatabaseError> {
        let found = self
            .each(
                "check the credentials of streams",
                &queries::LIST_LIVE_GRANTS,
                &[&checked.tokens, &checked.sessions],
                |row| {
                    Ok((
                        column::<i64>(row, "id")?,
                        column::<Option<Vec<u8>>>(row, "hash")?,
                    ))
                },
            )
            .await?;
        let mut live = LiveGrants::default();
        for (token, session) in found {
            match session {
                Some(hash) => live.sessions.push(hash),
                None => live.tokens.push(token),
            }
        }
        Ok(live)
    }

    /// Whether any valid token exists.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn has_live_token(&self) -> Result<bool, DatabaseError> {
        let found = self
            .each(
                "look for a token of the API",
                &queries::HAS_LIVE_TOKEN,
                &[],
                |row| column(row, "found"),
            )
            .await?;
        Ok(found.into_iter().any(|found: bool| found))
    }
}

fn token(row: &Row) -> Result<Token, Undecodable> {
    Ok(Token {
        name: column(row, "name")?,
        scope: column(row, "scope")?,
        state: column(row, "state")?,
        created_at: column(row, "created_at")?,
        created_by: column(row, "created_by")?,
        expires_at: column(row, "expires_at")?,
        last_used_at: column(row, "last_used_at")?,
        revoked_at: column(row, "revoked_at")?,
        revoked_by: column(row, "revoked_by")?,
    })
}

fn bearer(row: &Row) -> Result<Bearer, Undecodable> {
    Ok(Bearer {
        token: column(row, "id")?,
        name: column(row, "name")?,
        scope: column::<&str>(row, "scope")?.parse()?,
        state: match column(row, "state")? {
            "live" => CredentialState::Live,
            "expired" => CredentialState::Expired,
            _ => CredentialState::Revoked,
        },
        use_unrecorded: column(row, "use_unrecorded")?,
    })
}
