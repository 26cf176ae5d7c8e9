//! Creates the roles in the embedded server of `kindler dev`. On any other server an
//! administrator runs `sql/roles.sql`.

use crate::core::database::{Database, DatabaseError};

const ROLES: &str = include_str!("../../sql/roles.sql");
const DEV_LOGIN: &str = include_str!("../../sql/dev_login.sql");

/// The daemon's login role, which [`make_dev_roles`] creates.
pub const DEV_DAEMON: &str = "kindler_reconciler";

/// The login role of the page and the API, which [`make_dev_roles`] creates.
pub const DEV_API: &str = "kindler_page";

/// Creates the group roles and the login roles; repeatable. Requires a superuser.
///
/// # Errors
/// [`DatabaseError`] with the server's message.
pub async fn make_dev_roles(admin: &Database) -> Result<(), DatabaseError> {
    let failed = |source| DatabaseError::Failed {
        operation: "create the roles",
        source,
    };
    let client = admin.connect().await.map_err(failed)?;
    for script in ["SET client_min_messages = warning", ROLES, DEV_LOGIN] {
        client.batch_execute(script).await.map_err(failed)?;
    }
    Ok(())
}
