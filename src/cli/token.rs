//! Creates, lists and revokes tokens. The secret is shown once, at the creation;
//! only its hash is stored.

use jiff::Timestamp;

use crate::access::{SECRET_BYTES, Secret, TokenName};
use crate::core::database::DatabaseError;
use crate::store::Token;

use super::args::{ListOutput, TokenCommand, TokenCreateArgs};
use super::error::CliError;
use super::outcome::Exit;
use super::screen::{Screen, remark, write_json, write_out};
use super::session::CliSession;
use super::table::{Column, Field, render};
use super::text;

const fn column(title: &'static str, keep: u8) -> Column {
    Column {
        title,
        keep,
        text: false,
    }
}

/// The last two columns are for `-o wide`.
const COLUMNS: [Column; 8] = [
    column("NAME", u8::MAX),
    column("SCOPE", u8::MAX),
    column("STATE", u8::MAX),
    column("LAST USED", 9),
    column("EXPIRES", 8),
    column("AGE", 7),
    column("CREATED BY", 6),
    column("REVOKED BY", 5),
];
const NARROW: usize = 6;

pub(super) async fn token(
    session: &CliSession,
    screen: &Screen,
    command: TokenCommand,
) -> Result<Exit, CliError> {
    match command {
        TokenCommand::Create(args) => create(session, args).await,
        TokenCommand::List { output } => list(session, screen, output).await,
        TokenCommand::Revoke { name } => revoke(session, &name).await,
    }
}

async fn create(session: &CliSession, args: TokenCreateArgs) -> Result<Exit, CliError> {
    let mut random = [0; SECRET_BYTES];
    getrandom::fill(&mut random).map_err(CliError::Randomness)?;
    let (secret, name) = (Secret::token(random), args.name);
    let seconds = args.expires.map(|life| life.as_secs_f64());
    let created = session
        .store
        .create_token(&name, &secret.fingerprint(), args.scope, seconds)
        .await
        .map_err(|error| failed(session, error))?;
    let Some(created) = created else {
        return Err(CliError::TokenExists(name));
    };
    let ends = match created.expires_at {
        Some(at) => format!(", expires {}", at.strftime("%Y-%m-%d %H:%M:%SZ")),
        None => String::new(),
    };
    remark(&format!(
        "token {name}, scope {}{ends}; it is shown only once:",
        args.scope
    ));
    write_out(&format!("{}\n", secret.expose()))
}

async fn list(session: &CliSession, screen: &Screen, output: ListOutput) -> Result<Exit, CliError> {
    let tokens = session.store.tokens().await;
    let tokens = tokens.map_err(|error| failed(session, error))?;
    if output == ListOutput::Json {
        return write_json(&tokens);
    }
    if tokens.is_empty() {
        remark("there are no tokens; next: kindler token create NAME --scope read");
        return Ok(Exit::Done);
    }
    let shown = match output {
        ListOutput::Wide => COLUMNS.len(),
        ListOutput::Table | ListOutput::Json => NARROW,
    };
    let now = Timestamp::now();
    let rows: Vec<_> = tokens.iter().map(|token| as_fields(token, now)).collect();
    write_out(&render(&COLUMNS[..shown], &rows, screen))
}

fn as_fields(token: &Token, now: Timestamp) -> Vec<Field> {
    let ends = match (token.state.as_str(), token.expires_at) {
        ("revoked", _) => String::new(),
        (_, None) => "never".to_owned(),
        ("expired", Some(at)) => format!("{} ago", text::since(at, now)),
        (_, Some(at)) => text::until(at, now),
    };
    let used = token.last_used_at;
    vec![
        Field::new(text::line(&token.name)),
        Field::new(text::line(&token.scope)),
        Field::new(text::line(&token.state)),
        Field::new(used.map_or("never".to_owned(), |at| {
            format!("{} ago", text::since(at, now))
        })),
        Field::new(ends),
        Field::new(text::since(token.created_at, now)),
        Field::new(text::line(&token.created_by)),
        Field::new(text::line(token.revoked_by.as_deref().unwrap_or_default())),
    ]
}

async fn revoke(session: &CliSession, name: &TokenName) -> Result<Exit, CliError> {
    let revoked = session.store.revoke_token(name).await;
    match revoked.map_err(|error| failed(session, error))? {
        Some(_) => write_out(&format!("token {name} is revoked\n")),
        None => Err(CliError::NoToken(name.clone())),
    }
}

/// Adds a hint if the database role may not manage tokens.
fn failed(session: &CliSession, error: DatabaseError) -> CliError {
    let denied = matches!(error, DatabaseError::Denied { .. });
    match session.failed(error) {
        CliError::Store {
            database, source, ..
        } if denied => CliError::Store {
            database,
            hint: Some(
                "only the owner of the tables can manage tokens: use the database URL of \
                 `kindler migrate`"
                    .to_owned(),
            ),
            source,
        },
        other => other,
    }
}
