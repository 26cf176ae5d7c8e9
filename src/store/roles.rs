//! Making the roles of a private database; on any other, an administrator runs
//! `sql/roles.sql`.

use crate::core::database::{Database, DatabaseError};

const ROLES: &str = include_str!("../../sql/roles.sql");
const DEV_LOGIN: &str = include_str!("../../sql/dev_login.sql");

/// The login that [`make_dev_roles`] makes for the daemon.
pub const DEV_DAEMON: &str = "kindler_reconciler";

/// The login that [`make_dev_roles`] makes for the page and the API.
pub const DEV_PAGE: &str = "kindler_page";

/// Makes the group roles and the logins; repeatable. Needs a
/// superuser.
///
/// # Errors
/// [`DatabaseError`] with the server's word.
pub async fn make_dev_roles(admin: &Database) -> Result<(), DatabaseError> {
    let failed = |source| DatabaseError::Failed {
        operation: "make the roles",
        source,
    };
    let client = admin.connect().await.map_err(failed)?;
    for script in ["SET client_min_messages = warning", ROLES, DEV_LOGIN] {
        client.batch_execute(script).await.map_err(failed)?;
    }
    Ok(())
}
