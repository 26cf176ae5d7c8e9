//! Tokens and the logins that were begun with them. Only hashes come in here.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

use crate::access::{Fingerprint, Scope, TokenName};

use super::{Store, queries};
use crate::core::database::DatabaseError;
use crate::core::database::{Undecodable, column};

/// A token as people see it; its hash stays in the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Token {
    /// What the books call who uses it.
    pub name: String,
    /// `read`, `write` or `admin`.
    pub scope: String,
    /// `live`, `expired` or `revoked`.
    pub state: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it ends by itself, if it does.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to within a minute.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
    /// By whom.
    pub revoked_by: Option<String>,
}

/// Whether a token or a login may still be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Live,
    /// Its time is over.
    Expired,
    /// Somebody ended it.
    Revoked,
}

/// Whose secret was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// The token's number.
    pub token: i64,
    /// Its name.
    pub name: String,
    /// What it may be used for.
    pub scope: Scope,
    /// Whether it still may.
    pub standing: Standing,
    /// Whether nobody has noted its use within the last minute.
    pub use_is_news: bool,
}

/// What may still be used, of what was asked for.
#[derive(Clone, Debug, Default)]
pub struct LiveGrants {
    /// Numbers of tokens.
    pub tokens: Vec<i64>,
    /// Hashes of logins.
    pub sessions: Vec<Vec<u8>>,
}

impl Store {
    /// Makes a token of this hash; `None` if one of the name is there that was
    /// not revoked. `seconds` is how long it lives, if not for ever.
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
        let made = self
            .each(
                "create a token",
                &queries::CREATE_TOKEN,
                &[&name.as_str(), &hash.as_bytes(), &scope.as_str(), &seconds],
                token,
            )
            .await?;
        Ok(made.into_iter().next())
    }

    /// Every token that was ever made.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn tokens(&self) -> Result<Vec<Token>, DatabaseError> {
        self.each("list tokens", &queries::LIST_TOKENS, &[], token)
            .await
    }

    /// Ends a token and every login with it; `None` if there is none to end.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn revoke_token(&self, name: &TokenName) -> Result<Option<Token>, DatabaseError> {
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&name.as_str()];
        let revoked = self
            .each("revoke a token", &queries::REVOKE_TOKEN, &params, token)
            .await?;
        Ok(revoked.into_iter().next())
    }

    /// Whose token has this hash.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn bearer(&self, shown: &Fingerprint) -> Result<Option<Bearer>, DatabaseError> {
        self.shown("find a token", &queries::FIND_TOKEN, shown)
            .await
    }

    /// Whose login has this hash.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn session(&self, shown: &Fingerprint) -> Result<Option<Bearer>, DatabaseError> {
        self.shown("find a login", &queries::FIND_SESSION, shown)
            .await
    }

    async fn shown(
        &self,
        operation: &'static str,
        sql: &str,
        shown: &Fingerprint,
    ) -> Result<Option<Bearer>, DatabaseError> {
        let found = self
            .each(operation, sql, &[&shown.selector()], |row| {
                Ok((column::<Vec<u8>>(row, "hash")?, bearer(row)?))
            })
            .await?;
        let mine = found.into_iter().find(|(hash, _)| shown.matches(hash));
        Ok(mine.map(|(_, bearer)| bearer))
    }

    /// Notes that a token was used, unless that was noted within a minute.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn note_token_use(&self, token: i64) -> Result<(), DatabaseError> {
        self.execute("note a token's use", &queries::NOTE_TOKEN_USE, &[&token])
            .await
            .map(drop)
    }

    /// Begins a login for `seconds` at most, and no longer than the token lives;
    /// of one token there are at most `most`, the newest.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn open_session(
        &self,
        token: i64,
        hash: &Fingerprint,
        seconds: f64,
        most: i64,
    ) -> Result<bool, DatabaseError> {
        self.execute(
            "begin a login",
            &queries::OPEN_SESSION,
            &[&token, &hash.as_bytes(), &seconds, &most],
        )
        .await
        .map(|begun| begun > 0)
    }

    /// Ends a login.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn close_session(&self, hash: &Fingerprint) -> Result<(), DatabaseError> {
        self.execute("end a login", &queries::CLOSE_SESSION, &[&hash.as_bytes()])
            .await
            .map(drop)
    }

    /// Which of these tokens and logins may still be used.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn live_grants(&self, asked: &LiveGrants) -> Result<LiveGrants, DatabaseError> {
        let found = self
            .each(
                "look at open streams' tokens",
                &queries::LIST_LIVE_GRANTS,
                &[&asked.tokens, &asked.sessions],
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

    /// Whether anybody could call the API with a token.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn has_live_token(&self) -> Result<bool, DatabaseError> {
        let found = self
            .each("look for a token", &queries::HAS_LIVE_TOKEN, &[], |row| {
                column(row, "found")
            })
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
        standing: match column(row, "state")? {
            "live" => Standing::Live,
            "expired" => Standing::Expired,
            _ => Standing::Revoked,
        },
        use_is_news: column(row, "use_is_news")?,
    })
}
