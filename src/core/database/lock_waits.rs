//! Names the sessions that a statement waits for. The server does not say it in the error of
//! a lock timeout, and afterwards it is too late to ask: another connection asks during the wait.

use std::pin::pin;
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::time::sleep;
use tokio_postgres::CancelToken;
use tokio_postgres::types::Type;

use super::backend::process_of_token;
use super::table_locks::Blocker;

/// How long a statement may take before the question: less than it may wait for a lock.
const ASK_AFTER: Duration = Duration::from_millis(1500);

/// The result of `work`, and, if it took long, for whom its session waited. `session` is none
/// if others share it.
pub(super) async fn naming_blockers<T>(
    pool: &Pool,
    session: Option<CancelToken>,
    work: impl Future<Output = T>,
) -> (T, Option<String>) {
    let mut work = pin!(work);
    let ask = async {
        match session {
            Some(session) => {
                sleep(ASK_AFTER).await;
                blockers_of(pool, &session).await
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        done = &mut work => (done, None),
        named = ask => (work.await, named),
    }
}

async fn blockers_of(pool: &Pool, session: &CancelToken) -> Option<String> {
    let process = process_of_token(session).await;
    let client = pool.get().await.ok()?;
    let sql = include_str!("../../../sql/core/list_blocking.sql");
    let found = client
        .query_typed(sql, &[(&process, Type::INT4)])
        .await
        .ok()?;
    let named: Vec<String> = found
        .iter()
        .filter_map(|row| Blocker::read(row).ok())
        .map(|blocker| blocker.to_string())
        .collect();
    (!named.is_empty()).then(|| named.join(", "))
}
